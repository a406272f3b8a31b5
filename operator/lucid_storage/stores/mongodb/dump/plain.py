"""The oplog's commonest entries, of one written document each, read by their first and last fields alone.

To decode an entry with all that it holds takes seven times as long as the server and the driver need to hand it over
(docs/performance.md, "What the bench led to"). What is not exactly of the order that servers write (`op, ns, ui, o, o2,
stmtId, ts, t, v`, behind `lsid, txnNumber` for writes that can be retried) is left to whoever decodes.
"""

from __future__ import annotations

import re
from struct import Struct
from struct import error as TooShort  # noqa: N812
from typing import NamedTuple

from lucid_storage.stores.mongodb.dump.optimes import OpTime

_SESSION = rb"\x03lsid\x00\x48\x00\x00\x00.{68}\x12txnNumber\x00.{8}"
"""As clients make them: a UUID and the SHA-256 of a user. The server's own sessions hold more."""
_head = re.compile(
    rb"(?:" + _SESSION + rb")?"
    rb"\x02op\x00\x02\x00\x00\x00([iudn]\x00\x02ns\x00.{4}[^\x00]*\x00)(?:\x05ui\x00\x10\x00\x00\x00\x04.{16})?\x03o\x00",
    re.DOTALL,
).match
_tail = re.compile(rb"(?:\x10stmtId\x00.{4})?\x11ts\x00(?=.{8}\x12t\x00.{8}\x12v\x00)", re.DOTALL).match
_size_at = Struct("<i").unpack_from
_optime_at = Struct("<II3xq").unpack_from
"""Counter and seconds of `ts`, then `t` behind its type and name."""
_FIRST = 4
"""Behind the length of the entry."""
_SELECTOR = b"\x03o2\x00"


class Plain(NamedTuple):
    """An insert, update, delete or no-op outside of transactions."""

    about: bytes
    """Kind and namespace as they are written: the same bytes, the same kind and namespace."""
    optime: OpTime


def plain(raw: bytes | memoryview) -> Plain | None:
    """None for an entry that has to be decoded. What documents hold is jumped over, not searched."""
    head = _head(raw, _FIRST)
    if head is None:
        return None
    try:
        at = head.end()
        at += _size_at(raw, at)[0]
        if raw[at : at + len(_SELECTOR)] == _SELECTOR:
            at += len(_SELECTOR)
            at += _size_at(raw, at)[0]
    except TooShort:
        return None
    tail = _tail(raw, at)
    if tail is None:
        return None
    counter, seconds, term = _optime_at(raw, tail.end())
    return Plain(head[1], OpTime(seconds, counter, term)) if seconds else None
