"""MongoDB's wire protocol, as far as drivers of today speak it: OP_MSG, and OP_QUERY for the first hello."""

import asyncio
import struct
from dataclasses import dataclass
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion

Document = dict[str, Any]

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
LARGEST_MESSAGE = 48_000_000
SEQUENCES = ("documents", "updates", "deletes")

_HEADER = struct.Struct("<iiii")
_MORE_TO_COME = 1 << 1
# Values pass through unchanged, dates beyond Python's years included.
_OPTIONS: CodecOptions[Document] = CodecOptions(
    document_class=dict,
    datetime_conversion=DatetimeConversion.DATETIME_MS,
    unicode_decode_error_handler="replace",
)


@dataclass(frozen=True)
class Request:
    """One command; `legacy` asks for an answer in the old form."""

    number: int
    command: Document
    legacy: bool = False
    silent: bool = False
    """The client waits for no answer."""


class ClosedError(ConnectionError):
    """The other side has gone."""


async def read_request(reader: asyncio.StreamReader) -> Request:
    """The next command of a client; raises ClosedError at the end."""
    number, operation, payload = await _read(reader)
    if operation == OP_QUERY:
        # flags, collection name, skip, limit, query
        name_end = payload.index(b"\0", 4)
        return Request(number, _decode(payload[name_end + 9 :]), legacy=True)
    if operation != OP_MSG:
        raise ClosedError(f"operation {operation} is not spoken here")
    flags = struct.unpack_from("<I", payload)[0]
    return Request(number, _sections(payload, flags), silent=bool(flags & _MORE_TO_COME))


async def read_answer(reader: asyncio.StreamReader) -> Document:
    """A server's answer; raises ClosedError when it has gone."""
    _, _, payload = await _read(reader)
    return _sections(payload, struct.unpack_from("<I", payload)[0])


def packed(command: Document, *, number: int, answers: int = 0, legacy: bool = False) -> bytes:
    """One message; what a client sent as a sequence of documents goes on as one, since it may be larger than 16 MiB."""
    batches = {name: command[name] for name in SEQUENCES if isinstance(command.get(name), list)}
    body = bson.encode({name: value for name, value in command.items() if name not in batches})
    if legacy:
        head = struct.pack("<iqii", 8, 0, 0, 1)
        return _HEADER.pack(16 + len(head) + len(body), number, answers, OP_REPLY) + head + body
    sections = [b"\0" + body]
    for name, documents in batches.items():
        content = name.encode() + b"\0" + b"".join(map(bson.encode, documents))
        sections.append(struct.pack("<Bi", 1, 4 + len(content)) + content)
    payload = struct.pack("<I", 0) + b"".join(sections)
    return _HEADER.pack(16 + len(payload), number, answers, OP_MSG) + payload


async def _read(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
    try:
        length, number, _, operation = _HEADER.unpack(await reader.readexactly(16))
        if not 16 <= length <= LARGEST_MESSAGE + 16_384:
            raise ClosedError(f"a message of {length} bytes")
        return number, operation, await reader.readexactly(length - 16)
    except (asyncio.IncompleteReadError, ConnectionError) as gone:
        raise ClosedError("closed") from gone


def _sections(payload: bytes, flags: int) -> Document:
    end = len(payload) - (4 if flags & 1 else 0)
    position, command, batches = 4, Document(), Document()
    while position < end:
        kind = payload[position]
        size = struct.unpack_from("<i", payload, position + 1)[0]
        section = payload[position + 1 : position + 1 + size]
        if kind == 0:
            command = _decode(section)
        else:
            name_end = section.index(b"\0", 4)
            name = section[4:name_end].decode()
            batches[name] = bson.decode_all(section[name_end + 1 :], _OPTIONS)
        position += 1 + size
    return {**command, **batches}


def _decode(data: bytes) -> Document:
    return bson.decode(data, _OPTIONS)
