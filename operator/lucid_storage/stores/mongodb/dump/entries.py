"""Entries of the oplog cut to a selection. Documents stay the bytes that the server wrote.

Source of the form: the server's own entries (versions 5 to 7). A transaction is one `applyOps`, a chain of them linked
by `prevOpTime` (all but the last with `partialTxn`), or prepared (`prepare`) and decided by an entry of its own. Pure,
apart from what is carried along of transactions that are open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument

from lucid_storage.stores.mongodb.dump.optimes import OpTime, optime
from lucid_storage.stores.mongodb.dump.plain import plain
from lucid_storage.stores.mongodb.names import BUCKETS_PREFIX, VIEWS

RAW: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument, datetime_conversion=DatetimeConversion.DATETIME_MS
)
Entry: TypeAlias = Mapping[str, object]
Counts: TypeAlias = "Counter[tuple[str, str]]"
"""Of operations, by namespace and kind (i, u, d or c)."""
Wanted: TypeAlias = Callable[[str], bool]
Earlier: TypeAlias = Callable[[OpTime], Sequence[Entry]]
"""The entries of a transaction up to this one, the oldest first, when they lie before what is read."""

_WITHOUT_EFFECT = frozenset({"dbCheck"})
_VIEWS = f".{VIEWS}\0".encode()


@dataclass(frozen=True, slots=True)
class Header:
    """What an operation is about; those nested in applyOps have one each."""

    op: str
    """i, u, d or c."""
    namespace: str
    """`<database>.<collection>`; of a view its own, of a time series its public one; of a rename its source."""
    command: str | None = None
    target: str | None = None
    """Where a rename leads."""
    whole_database: bool = False
    """The command names no collection."""


class Looked(NamedTuple):
    """One entry as a backup sees it."""

    optime: OpTime
    kept: bytes | memoryview | None
    """What is written; None when nothing of it belongs to the selection."""
    counts: Mapping[tuple[str, str], int]
    """Operations of the selection that take effect with it: those of a transaction count at its commit."""
    commands: tuple[Header, ...]
    """All commands, of the selection or not."""


@dataclass(slots=True)
class _Open:
    """A transaction that is not decided yet."""

    counts: Counts = field(default_factory=Counter)
    cut: bool = False


class EntryFilter:
    """Looks at entries in the order of the oplog."""

    def __init__(self, wanted: Wanted, wanted_database: Wanted, earlier: Earlier) -> None:
        """`wanted` takes `<database>.<collection>`, `wanted_database` the name of a database."""
        self._wanted = wanted
        self._wanted_database = wanted_database
        self._earlier = earlier
        self._open: dict[tuple[bytes, int], _Open] = {}
        self._known: dict[bytes, Mapping[tuple[str, str], int]] = {}
        """Of plain entries by what they are about: what each counts, nothing where it is not of the selection."""

    def look(self, raw: bytes | memoryview) -> Looked:
        one = plain(raw)
        counts = self._known.get(one.about) if one is not None else None
        if one is not None and counts is not None:
            return Looked(one.optime, raw if counts else None, counts, ())
        looked = self._decoded(raw)
        if one is not None and _VIEWS not in one.about:
            self._known[one.about] = looked.counts
        return looked

    def _decoded(self, raw: bytes | memoryview) -> Looked:
        entry = RawBSONDocument(bytes(raw), RAW)
        at = optime(entry)
        if at is None:
            raise ValueError("an entry of the oplog has no time")
        op = str(entry.get("op"))
        if op == "n":
            return Looked(at, None, Counter(), ())
        if op == "c":
            return self._command(at, entry, raw)
        about = header(entry)
        kept = self._selects(about)
        return Looked(at, raw if kept else None, Counter([(_place(entry), op)] if kept else []), ())

    def _selects(self, about: Header) -> bool:
        if about.whole_database:
            return about.command not in _WITHOUT_EFFECT and self._wanted_database(
                about.namespace.partition(".")[0]
            )
        if about.command in _WITHOUT_EFFECT:
            return False
        database, _, collection = about.namespace.partition(".")
        if about.command == "drop" and collection == VIEWS:
            return self._wanted_database(database)  # all views of the database go with their list
        return self._wanted(about.namespace) or (about.target is not None and self._wanted(about.target))

    def _command(self, at: OpTime, entry: Entry, raw: bytes | memoryview) -> Looked:
        about = header(entry)
        if about.command == "applyOps":
            return self._apply_ops(at, entry, raw)
        if about.command in ("commitTransaction", "abortTransaction"):
            # Its operations came before: what was kept of them needs its end.
            held = self._transaction(entry, optime_of(entry, "prevOpTime"))
            self._open.pop(_session(entry) or (b"", 0), None)
            return Looked(at, raw, held.counts if about.command == "commitTransaction" else Counter(), ())
        kept = self._selects(about)
        counts: Counts = Counter([(about.namespace, "c")] if kept else [])
        return Looked(at, raw if kept else None, counts, (about,))

    def _apply_ops(self, at: OpTime, entry: Entry, raw: bytes | memoryview) -> Looked:
        mine = self._cut(_body(entry))
        commands = tuple(about for about in mine.all if about.op == "c")
        session, previous = _session(entry), optime_of(entry, "prevOpTime")
        partial, prepared = bool(_body(entry).get("partialTxn")), bool(_body(entry).get("prepare"))
        if session is None or not (partial or prepared or previous):
            kept = raw if not mine.cut else self._encoded(entry, mine.body)
            return Looked(at, kept if mine.counts else None, mine.counts, commands)
        # Part of a chain, which is kept whole: what is not of the selection is taken out, its links stay.
        held = self._transaction(entry, previous)
        held.counts.update(mine.counts)
        held.cut = held.cut or mine.cut
        if partial or prepared:
            self._open[session] = held
        else:
            self._open.pop(session, None)
        body = mine.body
        if held.cut:
            body = {key: value for key, value in body.items() if key != "count"}
        kept = self._encoded(entry, body) if held.cut else raw
        return Looked(at, kept, Counter() if partial or prepared else held.counts, commands)

    def _transaction(self, entry: Entry, previous: OpTime | None) -> _Open:
        """What came before of the entry's transaction, in what was read or before it."""
        session = _session(entry)
        held = self._open.get(session) if session is not None else None
        if held is not None or previous is None:
            return held or _Open()
        held = _Open()
        for earlier in self._earlier(previous):
            part = self._cut(_body(earlier))
            held.counts.update(part.counts)
            held.cut = held.cut or part.cut
        return held

    def _cut(self, body: Entry) -> _Cut:
        """An applyOps without what is not of the selection."""
        elements = body.get("applyOps")
        kept: list[object] = []
        found = _Cut(body)
        for element in elements if isinstance(elements, list) else ():
            about = header(element)
            if about.command == "applyOps":
                inner = self._cut(_body(element))
                found.absorb(inner)
                if inner.counts:
                    kept.append({**element, "o": inner.body} if inner.cut else element)
                continue
            found.all.append(about)
            if self._selects(about):
                kept.append(element)
                found.counts[about.namespace if about.op == "c" else _place(element), about.op] += 1
            else:
                found.cut = True
        if found.cut:
            found.body = {**body, "applyOps": kept}
        return found

    @staticmethod
    def _encoded(entry: Entry, body: Entry) -> bytes:
        return bson.encode({**entry, "o": body})


@dataclass(slots=True)
class _Cut:
    """An applyOps as it is kept."""

    body: Entry
    counts: Counts = field(default_factory=Counter)
    all: list[Header] = field(default_factory=list)
    cut: bool = False

    def absorb(self, inner: _Cut) -> None:
        self.counts.update(inner.counts)
        self.all += inner.all
        self.cut = self.cut or inner.cut


def header(entry: Entry) -> Header:
    """What an entry, or an element of applyOps, is about."""
    op, place = str(entry.get("op")), _place(entry)
    database, _, collection = place.partition(".")
    body = _body(entry)
    if op != "c":
        if collection == VIEWS:
            # The operation is on the list of views; what it is about is the view.
            selector = entry.get("o2")
            key = (selector if isinstance(selector, Mapping) else body).get("_id")
            return Header(op, str(key))
        return Header(op, f"{database}.{collection.removeprefix(BUCKETS_PREFIX)}")
    command = next(iter(body), "")
    value = body.get(command)
    if command == "renameCollection":
        return Header(op, str(value), command, str(body.get("to")))
    if isinstance(value, str):
        return Header(op, f"{database}.{value.removeprefix(BUCKETS_PREFIX)}", command)
    return Header(op, place, command, whole_database=True)


def optime_of(entry: Entry, name: str) -> OpTime | None:
    value = entry.get(name)
    return optime(value) if isinstance(value, Mapping) else None


def _place(entry: Entry) -> str:
    return str(entry.get("ns", ""))


def _body(entry: Entry) -> Entry:
    body = entry.get("o")
    return body if isinstance(body, Mapping) else {}


def _session(entry: Entry) -> tuple[bytes, int] | None:
    """Who runs the transaction, and its number. Retried writes that the server put together are none."""
    session, number = entry.get("lsid"), entry.get("txnNumber")
    if not isinstance(session, RawBSONDocument) or not isinstance(number, int) or entry.get("multiOpType"):
        return None
    return bytes(session.raw), int(number)
