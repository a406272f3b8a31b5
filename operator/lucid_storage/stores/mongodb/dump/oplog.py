"""The oplog of the pinned member: where it ends, whether it still holds an entry, and what lies between two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import cast

from bson import Timestamp
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from lucid_storage.errors import LucidError, Reason, StoreUnavailableError
from lucid_storage.stores.mongodb.dump.entries import RAW, optime_of
from lucid_storage.stores.mongodb.dump.member import PinnedMember
from lucid_storage.stores.mongodb.dump.optimes import EntryPoint, OpTime, optime, sha256
from lucid_storage.stores.mongodb.dump.replies import replies

BATCH = 4096
"""Entries in a reply; the server ends one at 16 MiB anyway."""
PIECE_SECONDS = 300
"""Of the oplog in one search for renames: seconds of the server's work also where it writes very much."""

_OVERTAKEN = frozenset({136, 175, 43})
"""CappedPositionLost, QueryPlanKilled, CursorNotFound: the entry under the cursor was removed."""


class OplogGapError(LucidError):
    """What is asked for is no longer in the oplog, or not the same any more."""

    reason = Reason.OPLOG_GAP


class Oplog:
    """Reading only. Entries are read up to what a majority has, so nothing of it can be rolled back."""

    def __init__(self, member: PinnedMember) -> None:
        self._member = member
        local = cast("Database[RawBSONDocument]", member.client.get_database("local", codec_options=RAW))
        self._entries = local.get_collection("oplog.rs", read_concern=ReadConcern("majority"))

    def point(self, at: OpTime) -> EntryPoint | None:
        """The entry of this moment, as it is there now."""
        found = self._entry(at)
        if found is None:
            return None
        return EntryPoint(optime(found) or at, sha256(found.raw))

    def holds(self, point: EntryPoint) -> bool:
        """Whether exactly this entry is still there."""
        found = self.point(point.optime)
        return found is not None and found.sha256 == point.sha256

    def last(self) -> EntryPoint:
        """The newest entry that a majority has."""
        found = self.point(self._member.committed())
        if found is None:
            raise StoreUnavailableError(
                f"{self._member.label}: the newest entry of the oplog cannot be read; it is tried again."
            )
        return found

    def window_seconds(self) -> int:
        """How far it reaches back from the newest entry that a majority has."""
        at = self.first()
        return max(0, self._member.committed().seconds - at.seconds) if at is not None else 0

    def first(self) -> OpTime | None:
        """Where it begins; None for an empty one."""
        with self._asking():
            found = self._entries.find_one(sort=[("$natural", 1)])
        return optime(found) if found is not None else None

    def size_bytes(self) -> int:
        """What it may hold before it drops its oldest entries."""
        with self._asking():
            stats = self._member.client.local.command("collStats", "oplog.rs")
        return int(stats["maxSize"])

    def entries(self, after: EntryPoint, until: OpTime, *, inclusive: bool = False) -> Iterator[memoryview]:
        """The raw entries in (after, until], or with `after` too. `until` is the optime of an entry.

        Raises OplogGapError when `after` is not there any more, not the same, or lost while it is read.
        """
        last: memoryview | None = None
        for raw in self._between(after, until):
            if last is None and (_at(raw).moment != after.optime.moment or sha256(raw) != after.sha256):
                raise _gap(after)
            if last is not None or inclusive:
                yield raw
            last = raw
        if last is None or _at(last).moment != until.moment:
            raise _gap(after)

    def renames(self, after: EntryPoint, until: OpTime, check: Callable[[], None]) -> Iterator[memoryview]:
        """The entries in (after, until] that rename a collection; the server looks for them, so it is few that come.

        It looks at `PIECE_SECONDS` of the oplog at a time, with `check` before each: no index leads there, and a server
        that finds nothing says nothing before the end. Raises OplogGapError when entries are removed meanwhile; whether
        `after` was there is not looked at.
        """
        name = "renameCollection"
        renaming = [{f"o.{name}": {"$exists": True}}, {f"o.applyOps.o.{name}": {"$exists": True}}]
        at = after.optime
        while at.moment < until.moment:
            check()
            stop = min(until, OpTime(at.seconds + PIECE_SECONDS, 0), key=lambda o: o.moment)
            window = {"$gt": at.timestamp, "$lte": stop.timestamp}
            with self._asking(), _overtaken(after):
                found = list(self._entries.find({"ts": window, "op": "c", "$or": renaming}))
            yield from (memoryview(entry.raw) for entry in found)
            at = stop

    def oldest_open(self, at: OpTime) -> OpTime | None:
        """The first entry of the oldest transaction that had entries at this moment and was not decided by then.

        Call it soon after `at`: what was decided meanwhile is looked for in the oplog.
        """
        with self._asking_for_transactions():
            open_now = self._member.collection("config", "transactions").find(
                {"state": {"$in": ["inProgress", "prepared"]}, "startOpTime.ts": {"$lte": at.timestamp}}
            )
            starts = [optime(one["startOpTime"]) for one in open_now if isinstance(one["startOpTime"], dict)]
        starts += [optime(self.chain(link)[0]) for link in self._decided_since(at)]
        return min((start for start in starts if start is not None), key=lambda o: o.moment, default=None)

    def chain(self, link: OpTime) -> Sequence[RawBSONDocument]:
        """The entries of a transaction up to this one, the oldest first. Raises OplogGapError."""
        found: list[RawBSONDocument] = []
        at: OpTime | None = link
        while at is not None:
            entry = self._entry(at)
            if entry is None:
                raise _gap(EntryPoint(at, ""))
            found.append(entry)
            at = optime_of(entry, "prevOpTime")
        return found[::-1]

    def _decided_since(self, at: OpTime) -> list[OpTime]:
        """Links into the time before `at` of what was decided after it."""
        query = {
            "ts": {"$gt": at.timestamp, "$lte": self._member.committed().timestamp},
            "op": "c",
            "prevOpTime.ts": {"$gt": Timestamp(0, 0), "$lte": at.timestamp},
        }
        with self._asking():
            found = [optime_of(entry, "prevOpTime") for entry in self._entries.find(query)]
        return [link for link in found if link is not None]

    def _between(self, after: EntryPoint, until: OpTime) -> Iterator[memoryview]:
        query = {"ts": {"$gte": after.optime.timestamp, "$lte": until.timestamp}}
        fields = {"filter": query, "readConcern": {"level": "majority"}}
        client = self._member.client
        with self._asking(), _overtaken(after), client.start_session() as session:
            for documents in replies(client.local, session, "oplog.rs", fields, BATCH):
                yield from documents

    def _entry(self, at: OpTime) -> RawBSONDocument | None:
        with self._asking():
            return self._entries.find_one({"ts": at.timestamp})

    def _asking(self) -> AbstractContextManager[None]:
        return self._member.asking("read the oplog", "find on local.oplog.rs")

    def _asking_for_transactions(self) -> AbstractContextManager[None]:
        return self._member.asking("look for open transactions", "find on config.transactions")


@contextmanager
def _overtaken(after: EntryPoint) -> Iterator[None]:
    """The server dropped the entry under a cursor: what was read since `after` is not known to be all."""
    try:
        yield
    except OperationFailure as error:
        if error.code in _OVERTAKEN:
            raise _gap(after) from None
        raise


def _gap(point: EntryPoint) -> OplogGapError:
    return OplogGapError(
        f"The oplog no longer holds the entry at {point.optime.seconds}.{point.optime.counter} as it was, so what came"
        " after it is not known for certain. Make a full backup, and enlarge the oplog or shorten the interval."
    )


def _at(raw: memoryview) -> OpTime:
    found = optime(RawBSONDocument(bytes(raw), RAW))
    assert found is not None
    return found
