"""A whole RDB file: its keys one after the other, what else it holds, and whether it is undamaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from lucid_storage.errors import Reason
from lucid_storage.stores.redis.rdb.reader import CRC64_JONES, ByteReader, RdbError
from lucid_storage.stores.redis.rdb.values import MODULE_TYPE, SKIP, module_name, skip_module_parts

MAGIC = b"REDIS"
OLDEST_VERSION, NEWEST_VERSION = 9, 12
_SLOT_INFO, _FUNCTION, _FUNCTION_OF_CANDIDATES, _MODULE_AUX, _IDLE, _FREQUENCY, _AUX, _SIZES = range(244, 252)
_EXPIRE_MS, _EXPIRE_SECONDS, _SELECT, _END = range(252, 256)
_ONE_STRING = frozenset({0, 9, 10, 11, 12, 13, 16, 17, 20})
_LISTS = frozenset({1, 14, 18})
"""A server may keep their nodes packed in memory too (list-compress-depth)."""
_ROUNDED_UP = 4
"""An allocator gives a quarter more than it is asked for, where its classes of sizes lie furthest apart."""
_AROUND_BYTES = 1 + 2 + 8
"""Type before, version and checksum behind a value, as RESTORE takes it."""


@dataclass(slots=True)
class Contents:
    """What a data set holds, as far as it was read."""

    version: int = 0
    redis_version: str = ""
    keys: Counter[int] = field(default_factory=Counter)
    """By database."""
    functions: int = 0
    modules: Counter[str] = field(default_factory=Counter)
    """Keys by the module type of their value."""
    checksummed: bool = False
    """False where the server writes none (rdbchecksum no)."""

    @property
    def total(self) -> int:
        return sum(self.keys.values())


@dataclass(frozen=True, slots=True)
class Key:
    database: int
    name: bytes
    expires_at: int | None
    """Milliseconds since 1970."""
    module: str | None = None
    """The module type of its value."""


class ValueSize(NamedTuple):
    payload: int
    """Bytes that RESTORE takes."""
    plain: int
    """Bytes that it has unpacked: no server keeps it in less."""
    likely: int
    """Bytes of memory that a server takes for it, rounded up."""


class DataSet:
    """Reads one RDB file forward, once.

    `next_key` returns the keys one by one; `measure`, `value` or `write_value` take the value of the last one; `count`
    passes over all that is left. Each ends with the check of the checksum, and that nothing follows. They raise
    RdbError.
    `on_function` gets the code of each library, in the file before all keys.
    """

    def __init__(
        self, read: Callable[[int], bytes], on_function: Callable[[bytes], None] | None = None
    ) -> None:
        self.contents = Contents()
        self._reader = ByteReader(read)
        self._on_function = on_function
        self._database = 0
        self._expires_at: int | None = None
        self._pending: int | None = None  # type of the value that was not read yet
        self._ended = False
        self.size = ValueSize(0, 0, 0)
        """Of the last value that was measured or read."""

    def next_key(self) -> Key | None:
        """None at the sound end of the file."""
        self._skip_pending()
        kind = self._next_type()
        if kind is None:
            return None
        name = self._reader.string()
        self._pending = kind
        module = None
        if kind == MODULE_TYPE:
            module = module_name(self._reader.length())
            self.contents.modules[module] += 1
        self.contents.keys[self._database] += 1
        return Key(self._database, name, self._expires_at, module)

    @property
    def offset(self) -> int:
        """Bytes of the file before what comes next: of a key just returned, where its value begins."""
        return self._reader.offset

    def measure(self) -> ValueSize:
        """How large the last key's value is, which is passed over."""
        self._pass_value(self._value_kind())
        return self.size

    def value(self) -> tuple[bytes, ...]:
        """The last key's value as DUMP gives it and RESTORE takes it, in pieces."""
        pieces: list[bytes] = []
        self.write_value(pieces.append)
        return tuple(pieces)

    def write_value(self, write: Callable[[bytes], None]) -> None:
        """The same, passed on as it is read: it may be larger than memory. What `write` raises goes through."""
        kind, checksum = self._value_kind(), 0

        def passed(piece: bytes) -> None:
            nonlocal checksum
            checksum = CRC64_JONES.calc(piece, checksum)
            write(piece)

        passed(bytes((kind,)))
        self._reader.pass_on(passed)
        self._pass_value(kind)
        self._reader.passed_on()
        passed(self.contents.version.to_bytes(2, "little"))
        write(checksum.to_bytes(8, "little"))

    def _value_kind(self) -> int:
        kind, self._pending = self._pending, None
        if kind is None or kind == MODULE_TYPE:
            raise ValueError("there is no value to read, or it is a module's")
        return kind

    def _pass_value(self, kind: int) -> None:
        reader = self._reader
        began, unpacked, around = reader.offset, reader.unpacked, reader.around
        SKIP[kind](reader)
        size = reader.offset - began
        whole = size + reader.unpacked - unpacked
        self.size = ValueSize(
            payload=size + _AROUND_BYTES,
            plain=size if kind in _LISTS else whole,
            likely=whole + whole // _ROUNDED_UP + reader.around - around,
        )

    def count(self) -> Contents:
        """All that is left, names and values unread."""
        self._skip_pending()
        reader, keys = self._reader, self.contents.keys
        while (kind := self._next_type()) is not None:
            keys[self._database] += 1
            if kind in _ONE_STRING:
                reader.skip_strings(2)
                keys[self._database] += reader.skip_small_keys(_ONE_STRING, _EXPIRE_MS)
                continue
            reader.skip_strings(1)
            if kind == MODULE_TYPE:
                self.contents.modules[module_name(reader.length())] += 1
                skip_module_parts(reader)
            else:
                SKIP[kind](reader)
        return self.contents

    def _skip_pending(self) -> None:
        kind, self._pending = self._pending, None
        if kind == MODULE_TYPE:
            skip_module_parts(self._reader)
        elif kind is not None:
            SKIP[kind](self._reader)

    def _next_type(self) -> int | None:
        """Past everything that is no key, to the type of the next one; None at the end."""
        if self._ended:
            return None
        if not self.contents.version:
            self._begin()
        reader = self._reader
        self._expires_at = None
        while True:
            code = reader.byte()
            if code in SKIP:
                return code
            if code == _END:
                self._end()
                return None
            if code == _EXPIRE_MS:
                self._expires_at = int.from_bytes(reader.take(8), "little", signed=True)
            elif code == _EXPIRE_SECONDS:
                self._expires_at = 1000 * int.from_bytes(reader.take(4), "little", signed=True)
            else:
                self._other(code)

    def _begin(self) -> None:
        head = self._reader.take(9)
        if not head.startswith(MAGIC) or not head[5:].isdigit():
            raise RdbError("The data are no Redis data set: they do not begin as one.")
        version = int(head[5:])
        if not OLDEST_VERSION <= version <= NEWEST_VERSION:
            raise RdbError(
                f"The Redis data set has version {version}; versions {OLDEST_VERSION} to {NEWEST_VERSION} can be "
                "read (Redis 5.0 to 8.0).",
                reason=Reason.NOT_SUPPORTED,
            )
        self.contents.version = version

    def _other(self, code: int) -> None:
        """Whatever stands between keys."""
        reader = self._reader
        if code == _SELECT:
            self._database = reader.length()
        elif code == _AUX:
            self._aux(reader.string(), reader.string())
        elif code in {_SIZES, _SLOT_INFO}:
            for _ in range(2 if code == _SIZES else 3):
                reader.length()
        elif code == _FREQUENCY:
            reader.byte()
        elif code == _IDLE:
            reader.length()
        elif code == _FUNCTION:
            self.contents.functions += 1
            self._function(reader.string())
        elif code == _MODULE_AUX:
            reader.length()
            skip_module_parts(reader)
        else:
            raise reader.damaged(f"it holds a part of the unknown kind {code}")

    def _aux(self, name: bytes, value: bytes) -> None:
        if name == b"redis-ver":
            self.contents.redis_version = value.decode("ascii", "replace")[:40]

    def _function(self, code: bytes) -> None:
        if self._on_function is not None:
            self._on_function(code)

    def _end(self) -> None:
        """Raises RdbError when the checksum is wrong or something follows."""
        reader = self._reader
        computed = reader.checksum()
        written = int.from_bytes(reader.take(8), "little")
        if written and written != computed:
            raise reader.damaged("its checksum is wrong")
        self.contents.checksummed = written != 0
        if not reader.at_end():
            raise reader.damaged("something follows its end")
        self._ended = True
