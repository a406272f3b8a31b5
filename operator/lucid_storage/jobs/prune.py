"""The prune worker: removes what retention lets go, what was deleted with its data, and what stopped workers left.

It decides from the manifests in the destination alone (archive/retention.py), so that nothing which the cluster forgot
can cost a base. A manifest goes before its data: whatever ends this worker, no manifest claims what is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from lucid_storage.archive import holds
from lucid_storage.archive.adoption import homes
from lucid_storage.archive.destination import ObjectStore
from lucid_storage.archive.layout import MARK
from lucid_storage.archive.manifest import BackupKind, RetentionRules
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.retention import Outcome, Question, Verdict, deletion_order, judge
from lucid_storage.archive.retention_rules import RuleBook
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.clocks import CLOCKS, by_both, by_either
from lucid_storage.jobs.destination import Place
from lucid_storage.jobs.prune_chain import Chain, begun, read_chain
from lucid_storage.jobs.prune_removing import discard, remove, tidy
from lucid_storage.jobs.prune_results import MOST_REMOVED, fitted, result_of
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.worker import Stop, run_worker
from lucid_storage.models.pruning import PruneOrder, PruneResult
from lucid_storage.models.settings import SettingsError, StoreSettings


def failed(order: PruneOrder, reason: Reason, message: str) -> PruneResult:
    """A result that says why not everything was removed."""
    return PruneResult(run=order.run, ok=False, reason=reason, message=message)


def prune(order: PruneOrder, environ: Mapping[str, str], reporter: Reporter, stop: Stop) -> PruneResult:
    """Removes what may go. Raises LucidError, also when it was stopped before that was done, or when one that was named
    has a snapshot that cannot go now; what is left then is found the next time.
    """
    place = Place.of(order, environ)
    own = datetime.now(UTC)
    if order.due is not None and own < order.due - CLOCKS:
        raise LucidError(
            f"By this worker's clock the data may go at {order.due:%Y-%m-%d %H:%MZ} only, and by the operator's that is"
            " over: set the clocks of the nodes right. Nothing was removed.",
            reason=Reason.UNHEALTHY,
        )
    now = by_both(order, own)
    folders = tuple(dict.fromkeys((*homes(place.store, place.folder), *map(place.folder.of, order.adopted))))
    before = read_chain(place, folders)
    removed_before = begun(place.store, before, order)
    chain = _marked(place.store, before, order)
    discard(place.store, chain, order)
    judged = judge(chain.records, _question(order, chain, now, frozenset()))
    until = by_either(order, own) + timedelta(seconds=order.deadline_seconds)
    held = _announce(place.store, chain, order, judged, now, until)
    judged = judge(chain.records, _question(order, chain, now, held))
    chosen = deletion_order(judged)
    going, more = _first(chosen)
    done = remove(place.store, chain, going, reporter, stop, _elasticsearch(environ))
    emptied = done.emptied(chain)
    if not emptied:
        for folder in chain.folders:
            holds.removal_over(place.store, folder, order.run)
    asked = (*order.remove, *order.expire)
    left = [r.id for r in going if r.id not in done.gone and r.id not in done.hindered]
    if left and (order.sweep or not set(left).isdisjoint(asked)):
        raise LucidError("Not everything was removed.", reason=stop.reason)
    for backup_id in asked:
        if backup_id in done.hindered:
            raise done.hindered[backup_id]
    if not stop.event.is_set():
        tidy(place.store, chain, now - timedelta(seconds=order.abandoned_seconds))
        for folder in chain.folders:
            holds.forget_ended(place.store, folder, now, removals=not emptied)
    after = read_chain(place, folders)
    _remember(place.store, after, order)
    # Of what cannot be removed now, such as snapshots of servers that are away, another worker removes no more.
    more = (more or bool(left)) and bool(done.gone - after.ids)
    result = result_of(order, after.records, after.unreadable, judged, more=more)
    seen = before.ids | removed_before
    missing = tuple(key for key in result.removed if key in asked and key not in seen)
    return fitted(result.model_copy(update={"missing": missing}))


def _question(order: PruneOrder, chain: Chain, now: datetime, held: frozenset[str]) -> Question:
    rules = {name: _rules(given) for name, given in order.rules.items()}
    return Question(
        now=now,
        own_clusters=frozenset(folder.cluster for folder in chain.folders),
        rules=RuleBook(rules, order.default_days, ZoneInfo(order.time_zone)),
        held=held,
        marked=chain.marked,
        only=None if order.sweep else frozenset(order.expire),
        by_hand=frozenset(order.by_hand),
        unreadable=chain.unreadable > 0,
    )


def _rules(given: Mapping[str, int]) -> RetentionRules:
    return RetentionRules.model_validate(given)


# Marks and claims


def _marked(store: ObjectStore, chain: Chain, order: PruneOrder) -> Chain:
    """With the marks that hold: of what is to go now, and of what no object claims. An object that is there says
    itself how long its data are kept, and may have been given more days since it was marked.
    """
    backups = {r.id: r for r in chain.records if r.kind is not BackupKind.SLICE}
    chosen = frozenset(backups).intersection(order.remove)
    if order.due is not None:
        for backup_id in sorted(chosen.intersection(chain.marked)):
            store.delete(_mark(chain, backups[backup_id]))  # its object stands, so nobody deleted it
    return replace(chain, marked=chain.marked.difference(order.by_hand, order.known) | chosen)


def _remember(store: ObjectStore, after: Chain, order: PruneOrder) -> None:
    """Mark what was deleted and is needed still, since its object goes now. Not before the end: an object that is told
    that the deletion failed stays, and may be kept after all.
    """
    for record in after.records:
        if order.due is None and record.kind is not BackupKind.SLICE and record.id in order.remove:
            store.put(_mark(after, record), b"{}")


def _mark(chain: Chain, backup: Recorded) -> str:
    return f"{chain.home(backup).backups}/{backup.id}/{MARK}"


def _announce(
    store: ObjectStore,
    chain: Chain,
    order: PruneOrder,
    judged: Iterable[Verdict],
    now: datetime,
    until: datetime,
) -> frozenset[str]:
    """Whoever begins to read now sees what is about to go; whoever reads already is seen here.

    A reader looks into the folder that its backup lies in, which may be one of an adopted cluster.
    """
    ids = {v.record.id for v in judged if v.outcome is not Outcome.KEEP}
    if ids:
        for folder in chain.folders:
            holds.announce_removal(store, folder, order.run, ids, until, now)
    return frozenset[str]().union(*(holds.held(store, folder, now) for folder in chain.folders))


def _first(chosen: Sequence[Recorded]) -> tuple[list[Recorded], bool]:
    """As many as one result can name, and whether there are more. Slices are not named and not counted."""
    going: list[Recorded] = []
    backups = 0
    for record in chosen:
        backups += record.kind is not BackupKind.SLICE
        if backups > MOST_REMOVED:
            return going, True
        going.append(record)
    return going, False


def _elasticsearch(environ: Mapping[str, str]) -> str | None:
    try:
        return StoreSettings.read(environ).elasticsearch()
    except SettingsError as error:
        raise LucidError(str(error), reason=Reason.SECRET_INVALID) from error


def run() -> int:
    """The command `lucid-storage prune`; returns its exit status."""
    return run_worker(PruneOrder, prune, failed)
