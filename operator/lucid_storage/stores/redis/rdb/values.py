"""Where the value of a key ends, for every type that a server writes. The value itself is not decoded."""

from __future__ import annotations

from collections.abc import Callable

from lucid_storage.stores.redis.rdb.reader import ByteReader

STREAM_ID_BYTES = 16
TIME_BYTES = 8
DOUBLE_BYTES = 8
MODULE_TYPE = 7
MODULE_EOF, MODULE_SIGNED, MODULE_UNSIGNED, MODULE_FLOAT, MODULE_DOUBLE, MODULE_STRING = range(6)
_NAME_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_SPECIAL_DOUBLES = (253, 254, 255)  # not a number and the infinities: nothing follows

# What a server keeps in memory beside the bytes of an element, rounded up from what 7.0 takes.
_COLLECTION_BYTES = 256
_SORTED_SET_BYTES = 1024
_NODE_BYTES = 64
_HASHED_BYTES = 72
_EXPIRING_BYTES = 128
_SCORED_BYTES = 128
_PENDING_BYTES = 48
_CONSUMER_BYTES = 128
_GROUP_BYTES = 192


def _counted(reader: ByteReader, each: int, whole: int = _COLLECTION_BYTES) -> int:
    """How many elements follow, of which each takes so much."""
    count = reader.length()
    reader.around += whole + each * count
    return count


def _one_string(reader: ByteReader) -> None:
    reader.skip_strings(1)


def _packed_nodes(reader: ByteReader) -> None:
    reader.skip_strings(_counted(reader, _NODE_BYTES))


def _set(reader: ByteReader) -> None:
    reader.skip_strings(_counted(reader, _HASHED_BYTES))


def _pairs(reader: ByteReader) -> None:
    reader.skip_strings(2 * _counted(reader, _HASHED_BYTES))


def _scored_by_text(reader: ByteReader) -> None:
    for _ in range(_counted(reader, _SCORED_BYTES, _SORTED_SET_BYTES)):
        reader.skip_strings(1)
        size = reader.byte()
        if size not in _SPECIAL_DOUBLES:
            reader.skip(size)


def _scored(reader: ByteReader) -> None:
    for _ in range(_counted(reader, _SCORED_BYTES, _SORTED_SET_BYTES)):
        reader.skip_strings(1)
        reader.skip(DOUBLE_BYTES)


def _nodes(reader: ByteReader) -> None:
    for _ in range(_counted(reader, _NODE_BYTES)):
        reader.length()  # plain or packed
        reader.skip_strings(1)


def _fields_that_expire(reader: ByteReader) -> None:
    reader.skip(TIME_BYTES)
    for _ in range(_counted(reader, _EXPIRING_BYTES)):
        reader.length()  # how long after the first field to expire
        reader.skip_strings(2)


def _packed_fields_that_expire(reader: ByteReader) -> None:
    reader.skip(TIME_BYTES)
    reader.skip_strings(1)


def module_name(identity: int) -> str:
    """The name of a module's type: nine characters of six bits each, above ten bits of version."""
    return "".join(_NAME_CHARACTERS[identity >> shift & 63] for shift in range(58, 9, -6))


def skip_module_parts(reader: ByteReader) -> None:
    """Past what a module wrote, which is a list of typed parts with an end mark."""
    while True:
        part = reader.length()
        if part == MODULE_EOF:
            return
        if part in {MODULE_SIGNED, MODULE_UNSIGNED}:
            reader.length()
        elif part in {MODULE_FLOAT, MODULE_DOUBLE}:
            reader.skip(4 if part == MODULE_FLOAT else DOUBLE_BYTES)
        elif part == MODULE_STRING:
            reader.skip_strings(1)
        else:
            raise reader.damaged("a module's value holds an unknown part")


def _module(reader: ByteReader) -> None:
    reader.length()
    skip_module_parts(reader)


def _stream(reader: ByteReader, *, first_id: bool, active_time: bool) -> None:
    for _ in range(_counted(reader, _NODE_BYTES)):
        reader.skip_strings(2)  # the id that the entries refer to, and the entries
    for _ in range(
        3 + (5 if first_id else 0)
    ):  # length, last id, and then first id, last deleted id, entries added
        reader.length()
    for _ in range(_counted(reader, _GROUP_BYTES, 0)):
        _consumer_group(reader, entries_read=first_id, active_time=active_time)


def _consumer_group(reader: ByteReader, *, entries_read: bool, active_time: bool) -> None:
    reader.skip_strings(1)
    for _ in range(3 if entries_read else 2):
        reader.length()
    for _ in range(_counted(reader, _PENDING_BYTES, 0)):
        reader.skip(STREAM_ID_BYTES + TIME_BYTES)
        reader.length()  # deliveries
    for _ in range(_counted(reader, _CONSUMER_BYTES, 0)):
        reader.skip_strings(1)
        reader.skip(TIME_BYTES * (2 if active_time else 1))
        reader.skip(STREAM_ID_BYTES * reader.length())


SKIP: dict[int, Callable[[ByteReader], None]] = {
    0: _one_string,  # string
    1: _packed_nodes,  # list
    2: _set,  # set
    3: _scored_by_text,  # sorted set
    4: _pairs,  # hash
    5: _scored,  # sorted set, scores in binary
    MODULE_TYPE: _module,
    9: _one_string,  # hash as zipmap
    10: _one_string,  # list as ziplist
    11: _one_string,  # set as intset
    12: _one_string,  # sorted set as ziplist
    13: _one_string,  # hash as ziplist
    14: _packed_nodes,  # list of ziplists
    15: lambda reader: _stream(reader, first_id=False, active_time=False),
    16: _one_string,  # hash as listpack
    17: _one_string,  # sorted set as listpack
    18: _nodes,  # list of listpacks and plain nodes
    19: lambda reader: _stream(reader, first_id=True, active_time=False),
    20: _one_string,  # set as listpack
    21: lambda reader: _stream(reader, first_id=True, active_time=True),
    24: _fields_that_expire,  # hash with fields that expire
    25: _packed_fields_that_expire,  # the same as listpack
}
"""By type. Types 6, 22 and 23 were written by release candidates alone."""
