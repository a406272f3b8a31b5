"""One restore as a worker does it: load, compare, replay, index. The swap is the operator's (swap.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.stores.mongodb.restore import finishing, journal, merging
from lucid_storage.stores.mongodb.restore.accounts import Accounts, choose, forget, look, put
from lucid_storage.stores.mongodb.restore.catalog import (
    BUCKETS_PREFIX,
    FUNCTIONS,
    Catalog,
    Definition,
    Name,
    Tracked,
    View,
    add_index,
    public_name,
)
from lucid_storage.stores.mongodb.restore.entries import Moment, entry
from lucid_storage.stores.mongodb.restore.inserted import Inserted, list_name, take_back
from lucid_storage.stores.mongodb.restore.journal import Direct, Journal, SwapState
from lucid_storage.stores.mongodb.restore.lease import Lease, over
from lucid_storage.stores.mongodb.restore.lineage import Lineage
from lucid_storage.stores.mongodb.restore.loading import Loader
from lucid_storage.stores.mongodb.restore.replaying import Replayer
from lucid_storage.stores.mongodb.restore.rewriting import CreateStaged, Rewriter, Rewritten
from lucid_storage.stores.mongodb.restore.target import Target
from lucid_storage.stores.mongodb.restore.transactions import Transactions

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Expected:
    """What the manifest says of a collection of the dump."""

    documents: int
    content_hash: str


@dataclass(frozen=True, slots=True)
class InPlace:
    """Over the live data instead of beside them (rule 2.3)."""

    replace: bool
    """Collections are dropped and loaded under their own name. Without it documents whose `_id` is absent are added."""
    steady: Callable[[Name], bool] = lambda _: True
    """Whether a collection has one name all the time. Others are staged, so that no name of another is touched."""

    def owns(self, name: Name) -> bool:
        """Stored functions can be dropped by nobody, so they are never loaded over others."""
        return self.replace and name[1] != FUNCTIONS and self.steady(name)


class Staging:
    """Stages the collections of one run. Methods in their order: define, load, compare, replay, finish, merge, ready.

    Everything raises LucidError and may leave staged collections behind; `discard` removes them.
    """

    def __init__(
        self,
        target: Target,
        run: str,
        targets: Mapping[str, str],
        lineage: Lineage,
        dump_end: Moment,
        report: Report = lambda *_: None,
        owner: Mapping[str, str] | None = None,
        in_place: InPlace | None = None,
    ) -> None:
        self._target = target
        self._in_place = in_place
        self._merging: set[int] = set()
        self.touched = False
        """Something live was dropped or written to: a failure leaves the target incomplete."""
        self._lineage = lineage
        self._report = report
        self.catalog = Catalog(run, targets)
        self._dumped: dict[Name, Tracked] = {}
        """Collections of the dump by the name that they had in it."""
        self._transactions = Transactions()
        self._rewriter = Rewriter(self.catalog, lineage, dump_end)
        self._inserted = Inserted(target)
        self._replayer = Replayer(target, report, self._inserted)
        self._targets = dict(targets)
        self._journal = Journal(run, SwapState.LOADING, owner=owner or {})

    @property
    def replayed(self) -> Rewritten:
        return self._rewriter.done

    @property
    def views(self) -> tuple[View, ...]:
        return self.catalog.views

    def on(self, target: Target) -> Staging:
        """The same over another connection."""
        self._target = target
        return self

    # Loading

    def define(self, definitions: Iterable[Definition]) -> None:
        """Make the collections of the dump that are restored. Raises RefusedError (TargetNotEmpty).

        All are looked at before the first is dropped, so that a refusal leaves the target as it was.
        """
        if self._in_place is not None:
            self._begin_in_place()
        for definition in definitions:
            name = _data_name(definition)
            if self.catalog.target(definition.database) is None or not self._lineage.base(name):
                continue
            if definition.type == "view":
                self.catalog.put_view(_view(definition))
                continue
            own = self._in_place is not None and self._in_place.owns(name)
            tracked = self.catalog.track(name, definition.options, definition.uuid, own=own)
            for index in definition.indexes:
                add_index(tracked, index)
            self._dumped[name] = tracked
        for tracked in self._dumped.values():
            self._check_room(tracked)
        for tracked in self._dumped.values():
            self._create(tracked)

    def loader(self) -> Loader:
        """For the documents; used as a context manager, flushed at the end."""
        return Loader(self._target, report=self._report, inserted=self._inserted)

    def tracked(self, name: Name) -> Tracked | None:
        """Where documents of the dump go; None when they are not restored."""
        return self._dumped.get(name)

    def check_loaded(self, loader: Loader) -> None:
        """That the server holds what was sent, before anything is replayed.

        A second copy of an `_id` took the place of the first, so it holds that many fewer (rule 1.12). Raises
        LucidError (CountMismatch).
        """
        for tracked in self.catalog:
            loaded, held = loader.loaded(tracked), self._target.count(*_place(tracked))
            wanted = loaded.documents - loaded.replaced
            # A capped collection that was written to while it was read is longer in the stream than its own limit.
            if held > wanted or (held < wanted - loaded.undecided and not tracked.capped):
                raise _mismatch(tracked, f"the server holds {held} documents", loaded.documents)

    def compare(self, loader: Loader, expected: Mapping[Name, Expected], found: Mapping[Name, str]) -> None:
        """That what came out of the archive is what the manifest says. `found` are content hashes of the stream.

        Raises LucidError (CountMismatch).
        """
        for name, wanted in expected.items():
            tracked = self._dumped.get(name)
            if tracked is None:
                raise _missing(name)
            loaded = loader.loaded(tracked)
            if (loaded.documents, found.get(name)) != (wanted.documents, wanted.content_hash):
                raise _mismatch(tracked, f"the archive holds {loaded.documents} documents", wanted.documents)

    def keep(self, accounts: Accounts) -> tuple[str, ...]:
        """Has users and roles wait for the end of the swap (rule 2.11); returns those that are left alone."""
        chosen = choose(accounts, look(self._target, accounts))
        self._journal = replace(self._journal, accounts=True)
        self._put_journal()
        put(self._target, self._journal.run, chosen)
        return chosen.skipped

    # Replaying

    def replay(self, entries: Iterable[bytes | memoryview], until: Moment) -> bool:
        """Apply entries up to `until`, inclusive; returns whether there may be more before it."""
        for raw in entries:
            found = entry(raw)
            if found.moment > until:
                self._replayer.flush()
                return False
            unit = self._transactions.feed(found)
            if unit is not None:
                for step in self._rewriter.rewrite(unit):
                    if isinstance(step, CreateStaged):
                        self._replayer.flush()
                        self._create(step.tracked)
                    else:
                        self._replayer.apply((step,))
        self._replayer.flush()
        return True

    # Finishing

    def finish(self) -> tuple[Tracked, ...]:
        """Indexes and options; returns what is to be swapped or lies under its own name already."""
        finished = self.catalog.finished()
        for tracked in self.catalog:
            if tracked.temporary and tracked.staged:
                self._target.drop(*_place(tracked))
        self._merging = {tracked.number for tracked in finished if self._merges(tracked)}
        for tracked in finished:
            if tracked.number in self._merging:
                continue
            self._target.wait_for_secondaries()
            finishing.build_indexes(self._target, tracked)
            finishing.set_options(self._target, tracked)
        return finished

    def merge(self, finished: Sequence[Tracked]) -> tuple[Tracked, ...]:
        """Adds what is absent to the collections that are there; returns those that are to be swapped.

        Only without consent to replace. Raises DuplicateKeysError when another unique index stands in the way.
        """
        rest = []
        for tracked in finished:
            if tracked.number not in self._merging:
                rest.append(tracked)
                continue
            self.touched = True
            self._target.wait_for_secondaries()
            merging.add_absent(self._target, tracked)
            self._target.drop(*_place(tracked))
        return tuple(rest)

    def _merges(self, tracked: Tracked) -> bool:
        """Whether it goes into a collection that is there."""
        if self._in_place is None or self._in_place.replace or not tracked.staged:
            return False
        return bool(self._target.collection_uuid(tracked.place.database, tracked.name[1]))

    def ready(self, finished: Sequence[Tracked]) -> Journal:
        """Write the journal from which the operator swaps; durable when it returns."""
        uuids = {}
        for tracked in finished:
            if tracked.staged:
                found = self._target.collection_uuid(*_place(tracked))
                uuids[tracked.number] = (found or b"").hex()
        self._journal = journal.ready(self._journal, finished, uuids, self.views, self._targets)
        self._put_journal()
        if self._in_place is not None:
            self._target.before_write = lambda: None
            self._target.write(self._home, over(self._journal.run), "end the restore's lease")
        return self._journal

    def discard(self) -> None:
        """Leave the target as it was: drop what this run staged and what it made under its own name, and take back
        what it put into something that was there.
        """
        if self._journal.accounts:
            forget(self._target, self._journal.run)
        for direct in self._journal.direct:
            self._undo(direct)
        for tracked in self.catalog:
            if tracked.staged:
                self._target.drop(*_place(tracked))
        self._target.write(
            self._home,
            {"delete": journal.JOURNALS, "deletes": [{"q": {"_id": self._journal.run}, "limit": 1}]},
            "remove the restore's journal",
        )

    def _undo(self, direct: Direct) -> None:
        for holder in (f"{BUCKETS_PREFIX}{direct.name}", direct.name):
            uuid = (self._target.collection_uuid(direct.database, holder) or b"").hex()
            if uuid and uuid == direct.made_uuid:
                self._target.drop(direct.database, direct.name)
            elif uuid and uuid == direct.found_uuid and direct.listed:
                take_back(self._target, direct.database, holder, direct.listed)
        if direct.listed:
            self._target.drop(direct.database, direct.listed)

    @property
    def _home(self) -> str:
        return min(self._targets.values())

    def _begin_in_place(self) -> None:
        """From here on every write renews the lease."""
        lease = Lease(self._target, self._home, self._journal.run)
        lease.await_others(sorted(set(self._targets.values())))
        self._put_journal()
        lease.renew()
        self._target.before_write = lease.renew

    def _put_journal(self) -> None:
        # The lease in it stays as it is, whoever wrote it last.
        document = self._journal.document()
        key = document.pop("_id")
        self._target.write(
            self._home,
            {
                "update": journal.JOURNALS,
                "updates": [{"q": {"_id": key}, "u": {"$set": document}, "upsert": True}],
            },
            "write the restore's journal",
        )

    def _owns(self, tracked: Tracked) -> bool:
        return not tracked.staged and self._in_place is not None and self._in_place.owns(tracked.name)

    def _check_room(self, tracked: Tracked) -> None:
        """Raises RefusedError for what can be loaded only under its own name, and is not empty there."""
        if tracked.staged or self._owns(tracked) or not self._target.count(*_place(tracked)):
            return
        raise RefusedError(
            f"{tracked.place.database}.{public_name(tracked.place.collection)} cannot be loaded beside the live data (a"
            " time series, stored functions or encrypted fields), and there are documents in it; move them away, or"
            " restore into another database with targetDatabase.",
            reason=Reason.TARGET_NOT_EMPTY,
        )

    def _create(self, tracked: Tracked) -> None:
        if tracked.staged:
            self._replayer.create(tracked, tracked.creation())
            return
        database, collection = tracked.place.database, public_name(tracked.place.collection)
        if self._owns(tracked):
            self._record(Direct(database, collection))
            self.touched = True
            self._target.drop(database, collection)
            self._replayer.create(tracked, tracked.creation())
            return
        if self._target.collection_uuid(database, collection) is None:
            self._replayer.create(tracked, tracked.creation())
            made = self._target.collection_uuid(*_place(tracked)) or b""
            self._record(Direct(database, collection, made_uuid=made.hex()))
        else:
            self._check_room(tracked)
            found = self._target.collection_uuid(*_place(tracked)) or b""
            name = list_name(self._journal.run, tracked.number)
            self._record(Direct(database, collection, found_uuid=found.hex(), listed=name))
            self._inserted.follow(tracked.place, name)

    def _record(self, direct: Direct) -> None:
        """Durable before anything is loaded into it."""
        self._journal = replace(self._journal, direct=(*self._journal.direct, direct))
        self._put_journal()


def _data_name(definition: Definition) -> Name:
    prefix = BUCKETS_PREFIX if definition.type == "timeseries" else ""
    return definition.database, f"{prefix}{definition.name}"


def _view(definition: Definition) -> View:
    pipeline, collation = definition.options.get("pipeline"), definition.options.get("collation")
    return View(
        database=definition.database,
        name=definition.name,
        on=str(definition.options.get("viewOn", "")),
        pipeline=tuple(pipeline) if isinstance(pipeline, Sequence) else (),
        collation=collation if isinstance(collation, Mapping) else None,
    )


def _place(tracked: Tracked) -> tuple[str, str]:
    return tracked.place.database, tracked.place.collection


def _missing(name: Name) -> LucidError:
    return LucidError(
        f"{name[0]}.{public_name(name[1])} is in the manifest and not in the archive. Nothing was swapped; restore"
        " another backup.",
        reason=Reason.COUNT_MISMATCH,
    )


def _mismatch(tracked: Tracked, found: str, wanted: int) -> LucidError:
    return LucidError(
        f"{tracked.name[0]}.{public_name(tracked.name[1])} is not what was backed up: {found}, the backup has"
        f" {wanted}. Nothing was swapped; restore another backup.",
        reason=Reason.COUNT_MISMATCH,
    )
