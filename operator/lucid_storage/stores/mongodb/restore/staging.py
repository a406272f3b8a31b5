"""One restore as a worker does it: load, compare, replay, index. The swap is the operator's (swap.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lucid_storage.errors import Reason, RefusedError
from lucid_storage.stores.mongodb.names import BUCKETS_PREFIX
from lucid_storage.stores.mongodb.restore import comparing, finishing, journal, merging
from lucid_storage.stores.mongodb.restore.accounts import Accounts, choose, look, put
from lucid_storage.stores.mongodb.restore.catalog import (
    FUNCTIONS,
    Catalog,
    Definition,
    Name,
    Tracked,
    View,
    check_length,
    public_name,
)
from lucid_storage.stores.mongodb.restore.comparing import Expected
from lucid_storage.stores.mongodb.restore.entries import Moment, entry
from lucid_storage.stores.mongodb.restore.holding import Leases
from lucid_storage.stores.mongodb.restore.inserted import Inserted, list_name
from lucid_storage.stores.mongodb.restore.journal import Direct, Journal
from lucid_storage.stores.mongodb.restore.lineage import Lineage
from lucid_storage.stores.mongodb.restore.loading import Loader
from lucid_storage.stores.mongodb.restore.redefining import add_index
from lucid_storage.stores.mongodb.restore.replaying import Replayer
from lucid_storage.stores.mongodb.restore.rewriting import CreateStaged, Rewriter, Rewritten
from lucid_storage.stores.mongodb.restore.target import Target
from lucid_storage.stores.mongodb.restore.transactions import Transactions
from lucid_storage.stores.mongodb.restore.views import left_out, try_view
from lucid_storage.stores.mongodb.restore.worker_journal import WorkerJournal

Report = Callable[[int, int], None]


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
        leases: Leases | None = None,
        *,
        swapped: bool = True,
    ) -> None:
        """`leases` are those of all target databases; none where nobody else may know of them. Where nothing is swapped
        afterwards, no name is too long: it was legal where it comes from.
        """
        self._swapped = swapped
        self._target = target
        self._in_place = in_place
        self._leases = leases
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
        self._journal = WorkerJournal(target, targets.values(), run, owner or {})

    @property
    def replayed(self) -> Rewritten:
        return self._rewriter.done

    @property
    def views(self) -> tuple[View, ...]:
        """Those that the swap makes."""
        return tuple(view for view in self.catalog.views if self._left_out(view) is None)

    def on(self, target: Target) -> Staging:
        """The same over another connection."""
        self._target = target
        self._journal.on(target)
        return self

    # Loading

    def define(self, definitions: Iterable[Definition]) -> None:
        """Make the collections of the dump that are restored. Raises RefusedError (TargetNotEmpty).

        All are looked at before the first is dropped, so that a refusal leaves the target as it was.
        """
        self._journal.begin(self._leases.numbers if self._leases is not None else {})
        if self._leases is not None:
            self._target.before_write = self._leases.check
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
        """Raises LucidError (CountMismatch)."""
        comparing.check_loaded(self._target, self.catalog, loader)

    def compare(self, loader: Loader, expected: Mapping[Name, Expected], found: Mapping[Name, str]) -> None:
        """`found` are content hashes of the stream. Raises LucidError (CountMismatch)."""
        comparing.compare(self._dumped, loader, expected, found)

    def keep(self, accounts: Accounts) -> tuple[str, ...]:
        """Has users and roles wait for the end of the swap (rule 2.11); returns those that are left alone."""
        chosen = choose(accounts, look(self._target, accounts))
        self._journal.put(replace(self._journal.now, accounts=True))
        put(self._target, self._journal.now.run, chosen)
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
        """Indexes and options; returns what is to be swapped or lies under its own name already. Raises LucidError, of
        names and views too that the swap could never put in place.
        """
        self._confirm()
        finished = self.catalog.finished()
        self._check_end(finished)
        for tracked in self.catalog:
            if tracked.temporary and tracked.staged:
                self._target.drop(*_place(tracked))
        self._merging = {tracked.number for tracked in finished if self._merges(tracked)}
        for tracked in filter(self.replaces, finished):
            self._target.wait_for_secondaries()
            finishing.build_indexes(self._target, tracked)
            finishing.set_options(self._target, tracked)
        return finished

    def merge(self, finished: Sequence[Tracked]) -> tuple[Tracked, ...]:
        """Adds what is absent to the collections that are there; returns those that are to be swapped.

        Only without consent to replace. Raises DuplicateKeysError when another unique index stands in the way.
        """
        self._confirm()
        rest = []
        for tracked in finished:
            if self.replaces(tracked):
                rest.append(tracked)
                continue
            self.touched = True
            self._target.wait_for_secondaries()
            merging.add_absent(self._target, tracked)
            self._target.drop(*_place(tracked))
        self._journal.now = replace(self._journal.now, merged=len(self._merging))
        return tuple(rest)

    def _merges(self, tracked: Tracked) -> bool:
        """Whether it goes into a collection that is there."""
        if self._in_place is None or self._in_place.replace or not tracked.staged:
            return False
        return bool(self._target.collection_uuid(tracked.place.database, tracked.name[1]))

    def replaces(self, tracked: Tracked) -> bool:
        """Whether it gets its name with its own indexes, and is not added to what has the name. After `finish`."""
        return tracked.number not in self._merging

    def ready(self, finished: Sequence[Tracked]) -> Journal:
        """Write the journal from which the operator swaps; durable when it returns."""
        uuids = {}
        for tracked in finished:
            if tracked.staged:
                found = self._target.collection_uuid(*_place(tracked))
                uuids[tracked.number] = (found or b"").hex()
        self._confirm()
        ready = journal.ready(self._journal.now, finished, uuids, self.views, self._targets)
        left = (said for view in self.catalog.views if (said := self._left_out(view)) is not None)
        self._journal.put(replace(ready, left=tuple(left)))
        return self._journal.now

    def discard(self) -> None:
        """Leave the target as it was, but for what was dropped or merged in place."""
        self._journal.discard()

    def _check_end(self, finished: Sequence[Tracked]) -> None:
        """What a plan cannot see, since the time of the dump made it. In place too late to leave all as it was: a view
        that the server does not know is told at the end of the swap then.
        """
        if self._swapped:
            for tracked in finished:
                check_length(tracked.place.database, public_name(tracked.name[1]))
        for view in self.views:
            if self._swapped:
                check_length(self._targets[view.database], view.name)
            if not self.touched:
                try_view(self._target, self._targets[view.database], view, self._journal.now.run)

    def _left_out(self, view: View) -> str | None:
        return left_out(view, self._targets[view.database])

    def _confirm(self) -> None:
        """Before a phase that changes much at once: that the run was not given up, by the server's word."""
        if self._leases is not None:
            self._leases.renew()

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
            self._journal.record(Direct(database, collection))
            self.touched = True
            self._target.drop(database, collection)
            self._replayer.create(tracked, tracked.creation())
            return
        there = self._target.collection_uuid(database, collection) is not None
        if not there and collection == FUNCTIONS:
            # No server drops it again: once made it is one that was there, and stays empty when all is taken back.
            self._replayer.create(tracked, tracked.creation())
        elif not there:
            self._journal.record(Direct(database, collection, making=True))
            try:
                self._replayer.create(tracked, tracked.creation())
            except RefusedError:
                self._journal.record(Direct(database, collection))  # somebody else made it
                raise
            made = self._target.collection_uuid(*_place(tracked)) or b""
            self._journal.record(Direct(database, collection, made_uuid=made.hex()))
            return
        self._check_room(tracked)
        found = self._target.collection_uuid(*_place(tracked)) or b""
        name = list_name(self._journal.now.run, tracked.number)
        self._journal.record(Direct(database, collection, found_uuid=found.hex(), listed=name))
        self._inserted.follow(tracked.place, name)


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
