"""The journal of a run as its worker writes it, and what is taken back by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.mongodb.names import BUCKETS_PREFIX
from lucid_storage.stores.mongodb.restore import journal_scope
from lucid_storage.stores.mongodb.restore.accounts import forget
from lucid_storage.stores.mongodb.restore.catalog import STAGED_PREFIX
from lucid_storage.stores.mongodb.restore.inserted import take_back
from lucid_storage.stores.mongodb.restore.journal import (
    JOURNALS,
    Direct,
    Journal,
    SwapState,
    forgetting,
    parsed,
)
from lucid_storage.stores.mongodb.restore.target import Target


class WorkerJournal:
    """Of one run, in the first of its databases. Everything raises LucidError, and what writes WorkerLost when the
    operator gave the run up.
    """

    def __init__(self, target: Target, databases: Iterable[str], run: str, owner: Mapping[str, str]) -> None:
        self._target = target
        self._databases = sorted(set(databases))
        self.now = Journal(run, SwapState.LOADING, owner=owner)

    def on(self, target: Target) -> None:
        """The same over another connection."""
        self._target = target

    def begin(self, fence: Mapping[str, int]) -> None:
        """Written before anything else. Another worker of this run that died is cleared away after first."""
        self._target.write(self._home, forgetting(), "forget restores that were given up long ago")
        there = self._there()
        if there is not None:
            if there.state is not SwapState.LOADING:
                raise self._given_up()
            self.now = journal_scope.within(there, self._databases)
            self._take_back()
        self.now = Journal(self.now.run, SwapState.LOADING, owner=self.now.owner, fence=fence)
        document = self.now.document()
        change = {"q": {"_id": document.pop("_id")}, "u": {"$setOnInsert": document}, "upsert": True}
        self._target.write(
            self._home, {"update": JOURNALS, "updates": [change]}, "write the restore's journal"
        )
        self._put()  # and this fails where somebody gave the run up in between

    def record(self, direct: Direct) -> None:
        """Durable before anything is loaded into it; takes the place of what was recorded of it before."""
        others = (known for known in self.now.direct if known.place != direct.place)
        self.put(replace(self.now, direct=(*others, direct)))

    def put(self, journal: Journal) -> None:
        """Durable when it returns."""
        self.now = journal
        self._put()

    def discard(self) -> None:
        """Leave the target as it was: what this run staged and made under its own name goes, and so does what it put
        into something that was there.
        """
        self._take_back()
        self._target.write(
            self._home,
            {"delete": JOURNALS, "deletes": [{"q": {"_id": self.now.run}, "limit": 1}]},
            "remove the restore's journal",
        )

    @property
    def _home(self) -> str:
        return self._databases[0]

    def _put(self) -> None:
        document = self.now.document()
        query = {"_id": document.pop("_id"), "state": {"$ne": str(SwapState.GIVEN_UP)}}
        answer = self._target.write(
            self._home,
            {"update": JOURNALS, "updates": [{"q": query, "u": {"$set": document}}]},
            "write the restore's journal",
        )
        if not answer.get("n"):
            raise self._given_up()

    def _there(self) -> Journal | None:
        answer = self._target.command(
            self._home,
            {"find": JOURNALS, "filter": {"_id": self.now.run}, "limit": 1, "singleBatch": True},
            "look for the restore's journal",
        )
        cursor = answer["cursor"]
        assert isinstance(cursor, Mapping)
        return parsed(cursor["firstBatch"][0]) if cursor["firstBatch"] else None

    def _take_back(self) -> None:
        if self.now.accounts:
            forget(self._target, self.now.run)
        for direct in self.now.direct:
            self._undo(direct)
        for database in self._databases:
            # The run is part of these names, so they are nobody else's.
            while names := self._target.names(database, f"{STAGED_PREFIX}{self.now.run}_"):
                for name in names:
                    self._target.drop(database, name)

    def _undo(self, direct: Direct) -> None:
        for holder in (f"{BUCKETS_PREFIX}{direct.name}", direct.name):
            uuid = self._target.collection_uuid(direct.database, holder) or b""
            if not uuid:
                continue
            if uuid.hex() == direct.made_uuid or (
                direct.making and not self._target.count(direct.database, holder)
            ):
                # The server compares no UUID where it drops a time series.
                self._target.drop(direct.database, direct.name, uuid if holder == direct.name else None)
                return  # what has the name from here on is somebody else's
            if uuid.hex() == direct.found_uuid and direct.listed:
                take_back(self._target, direct.database, holder, direct.listed)

    def _given_up(self) -> LucidError:
        return LucidError(
            "The operator gave this restore up, or another worker of it is done, so this worker ends. Restore again.",
            reason=Reason.WORKER_LOST,
        )
