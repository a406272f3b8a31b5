"""Moments and entries of an oplog, as values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from bson import Timestamp


class OpTime(NamedTuple):
    """A moment of a replica set. Compare `moment`s: an optime of an index build or an import may have no term."""

    seconds: int
    counter: int
    term: int = -1

    @property
    def moment(self) -> tuple[int, int]:
        return self.seconds, self.counter

    @property
    def timestamp(self) -> Timestamp:
        return Timestamp(self.seconds, self.counter)


class EntryPoint(NamedTuple):
    """One entry of the oplog, exactly."""

    optime: OpTime
    sha256: str
    """Of the entry's BSON."""


def optime(document: Mapping[str, object]) -> OpTime | None:
    """From `{ts, t}`, which entries and optimes of commands share; None for what is no moment, and for the null one."""
    timestamp, term = document.get("ts"), document.get("t")
    if not isinstance(timestamp, Timestamp) or not timestamp.time:
        return None
    return OpTime(timestamp.time, timestamp.inc, int(term) if isinstance(term, int) else -1)


def sha256(raw: bytes | memoryview) -> str:
    return hashlib.sha256(raw).hexdigest()
