"""Entries of an oplog as values. Documents stay the bytes that the server wrote; only envelopes are decoded.

Source of the form: the server's own oplog entries (versions 5 to 7): `op`, `ns`, `ui`, `o`, `o2`, `lsid`, `txnNumber`.
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from bson import Timestamp
from bson.codec_options import DatetimeConversion
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS, RawBSONDocument

from lucid_storage.errors import Reason, RefusedError

Moment: TypeAlias = tuple[int, int]
"""Cluster time: seconds since 1970, and a counter within them."""
Document: TypeAlias = Mapping[str, object]

LAST_COUNTER = 2**32 - 1
RAW_OPTIONS = DEFAULT_RAW_BSON_OPTIONS.with_options(datetime_conversion=DatetimeConversion.DATETIME_MS)
COMMANDS = "$cmd"


class OperationKind(StrEnum):
    """What an entry does."""

    INSERT = "i"
    UPDATE = "u"
    DELETE = "d"
    COMMAND = "c"
    NOTHING = "n"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, taken out of its transaction if it had one."""

    kind: OperationKind
    database: str
    collection: str
    """`$cmd` for commands."""
    document: Document
    """`o`: the new document, the change, the key of what is deleted, or the command."""
    selector: Document | None = None
    """`o2`: what is updated; of commands, what was before."""
    uuid: bytes | None = None
    """`ui`: which collection of that name."""

    @property
    def command(self) -> str:
        """The command's name, which is the first key; empty for a write."""
        return next(iter(self.document), "") if self.kind is OperationKind.COMMAND else ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the oplog."""

    moment: Moment
    operation: Operation
    session: tuple[bytes, int] | None = None
    """The transaction's identity: session and number. None outside of transactions and retryable writes."""


def bound(seconds: int) -> Moment:
    """The last moment of a second, inclusive."""
    return (seconds, LAST_COUNTER)


def entry(raw: bytes | bytearray | memoryview) -> Entry:
    """Decode one entry. Raises RefusedError (ReplayRefused) when it has not the form of one."""
    document = RawBSONDocument(bytes(raw), RAW_OPTIONS)
    moment = document.get("ts")
    if not isinstance(moment, Timestamp):
        raise refused("an entry of the oplog has no time")
    session, number = document.get("lsid"), document.get("txnNumber")
    return Entry(
        moment=(moment.time, moment.inc),
        operation=operation(document),
        session=(bytes(session.raw), number)
        if isinstance(session, RawBSONDocument) and isinstance(number, int)
        else None,
    )


def moment_of(raw: bytes | bytearray | memoryview) -> Moment:
    """When an entry was made. Raises RefusedError (ReplayRefused)."""
    found = RawBSONDocument(bytes(raw), RAW_OPTIONS).get("ts")
    if not isinstance(found, Timestamp):
        raise refused("an entry of the oplog has no time")
    return (found.time, found.inc)


def operation(document: Document) -> Operation:
    """The operation of an entry, or of an element of applyOps, which has the same fields."""
    try:
        kind = OperationKind(str(document.get("op")))
    except ValueError:
        raise refused(f"the oplog holds an operation of the kind {str(document.get('op'))[:20]!r}") from None
    database, _, collection = str(document.get("ns", "")).partition(".")
    body, selector, uuid = document.get("o"), document.get("o2"), document.get("ui")
    return Operation(
        kind=kind,
        database=database,
        collection=collection,
        document=body if isinstance(body, Mapping) else {},
        selector=selector if isinstance(selector, Mapping) else None,
        uuid=bytes(uuid) if isinstance(uuid, bytes) else None,
    )


def nested(command: Document) -> Sequence[Operation]:
    """The operations inside of an applyOps, unfolded to any depth, in order."""
    found: list[Operation] = []
    elements = command.get("applyOps")
    for element in elements if isinstance(elements, list) else ():
        inner = operation(element)
        if inner.command == "applyOps":
            found.extend(nested(inner.document))
        else:
            found.append(inner)
    return found


def refused(what: str) -> RefusedError:
    """`what` is a sentence without its end: what the replay does not do."""
    return RefusedError(
        f"{what[:1].upper()}{what[1:]}, which a restore does not replay; restore to a moment before it, or restore"
        " a full backup made after it.",
        reason=Reason.REPLAY_REFUSED,
    )
