"""The prune worker: removes what retention lets go, what was deleted with its data, and what stopped workers left.

It decides from the manifests in the destination alone (archive/retention.py), so that nothing which the cluster forgot
can cost a base. A manifest goes before its data: whatever ends this worker, no manifest claims what is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from lucid_storage.archive import holds
from lucid_storage.archive.adoption import homes
from lucid_storage.archive.destination import Entry, ObjectStore
from lucid_storage.archive.layout import MANIFEST, MARK, PROOF, ChainFolder
from lucid_storage.archive.manifest import BackupKind, RetentionRules
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.records import list_chain, manifest_path, proof_path
from lucid_storage.archive.retention import Outcome, Question, Verdict, deletion_order, judge
from lucid_storage.archive.retention_rules import RuleBook
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.clocks import CLOCKS, by_both, by_either
from lucid_storage.jobs.destination import Place
from lucid_storage.jobs.prune_results import MOST_REMOVED, fitted, result_of
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.worker import Stop, run_worker
from lucid_storage.models.pruning import PruneOrder, PruneResult
from lucid_storage.models.settings import SettingsError, StoreSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Chain:
    """What a chain consists of: what lies in its own folder, which comes first, and in those of adopted clusters."""

    folders: tuple[ChainFolder, ...]
    records: tuple[Recorded, ...]
    unreadable: int
    marked: frozenset[str]
    """Ids of backups whose data are to go as soon as nothing needs them."""

    @property
    def own(self) -> ChainFolder:
        return self.folders[0]

    def home(self, record: Recorded) -> ChainFolder:
        return self.own.of(record.manifest.origin.cluster)


def failed(order: PruneOrder, reason: Reason, message: str) -> PruneResult:
    """A result that says why not everything was removed."""
    return PruneResult(run=order.run, ok=False, reason=reason, message=message)


def prune(order: PruneOrder, environ: Mapping[str, str], reporter: Reporter, stop: Stop) -> PruneResult:
    """Removes what may go. Raises LucidError, also when it was stopped, or when one that was named has a snapshot that
    cannot go now; what is left then is found the next time.
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
    before = _found(order, place, folders)
    chain = _marked(place.store, before, order)
    _discard(place.store, chain, order.discard)
    judged = judge(chain.records, _question(order, chain, now, frozenset()))
    until = by_either(order, own) + timedelta(seconds=order.deadline_seconds)
    held = _announce(place.store, chain, order, judged, now, until)
    judged = judge(chain.records, _question(order, chain, now, held))
    chosen = deletion_order(judged)
    going, more = _first(chosen)
    hindered = _remove(place.store, chain, going, reporter, stop, _elasticsearch(environ))
    for folder in chain.folders:
        holds.removal_over(place.store, folder, order.run)
    if stop.event.is_set():
        raise LucidError(stop.message, reason=stop.reason)
    for backup_id in (*order.remove, *order.expire):
        if backup_id in hindered:
            raise hindered[backup_id]
    _tidy(place.store, chain, now, now - timedelta(seconds=order.abandoned_seconds))
    after = _read(place, folders)
    _remember(place.store, after, order)
    # Of what cannot be removed now, such as snapshots of servers that are away, another worker removes no more.
    more = more and bool({r.id for r in going}.difference(r.id for r in after.records))
    result = result_of(order, after.records, after.unreadable, judged, more=more)
    found = {r.id for r in before.records}
    missing = (key for key in result.removed if key in (*order.remove, *order.expire) and key not in found)
    return fitted(result.model_copy(update={"missing": tuple(missing)}))


def _question(order: PruneOrder, chain: _Chain, now: datetime, held: frozenset[str]) -> Question:
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


# Reading


def _read(place: Place, folders: tuple[ChainFolder, ...]) -> _Chain:
    found = list_chain(place.store, folders, place.keyring)
    entries = [entry for folder in folders for entry in place.store.list(folder.backups)]
    marks = (entry.path.split("/")[-2] for entry in entries if entry.path.endswith(f"/{MARK}"))
    for one in found.unreadable:
        logger.warning("%s", one.message)
    return _Chain(folders, found.records, len(found.unreadable), frozenset(marks))


def _found(order: PruneOrder, place: Place, folders: tuple[ChainFolder, ...]) -> _Chain:
    """The chain. Raises LucidError where nothing lies of all that objects claim to have data: the last good backup is
    never removed, so this is another place, or an empty one that was mounted instead.
    """
    chain = _read(place, folders)
    if order.known and not chain.records and not chain.unreadable:
        raise LucidError(
            f"None of the backups of the chain {order.chain} lies in {place.store.location}/{place.folder.path}. See"
            " whether that is the right bucket, prefix or volume; nothing was removed.",
            reason=Reason.DESTINATION_UNAVAILABLE,
        )
    return chain


def _marked(store: ObjectStore, chain: _Chain, order: PruneOrder) -> _Chain:
    """With the marks that hold: of what is to go now, and of what no object claims. An object that is there says
    itself how long its data are kept, and may have been given more days since it was marked.
    """
    backups = {r.id: r for r in chain.records if r.kind is not BackupKind.SLICE}
    chosen = frozenset(backups).intersection(order.remove)
    if order.due is not None:
        for backup_id in sorted(chosen.intersection(chain.marked)):
            store.delete(_mark(chain, backups[backup_id]))  # its object stands, so nobody deleted it
    return replace(chain, marked=chain.marked.difference(order.by_hand, order.known) | chosen)


def _remember(store: ObjectStore, after: _Chain, order: PruneOrder) -> None:
    """Mark what was deleted and is needed still, since its object goes now. Not before the end: an object that is told
    that the deletion failed stays, and may be kept after all.
    """
    for record in after.records:
        if order.due is None and record.kind is not BackupKind.SLICE and record.id in order.remove:
            store.put(_mark(after, record), b"{}")


def _mark(chain: _Chain, backup: Recorded) -> str:
    return f"{chain.home(backup).backups}/{backup.id}/{MARK}"


def _announce(
    store: ObjectStore,
    chain: _Chain,
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


# Removing


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


def _remove(
    store: ObjectStore,
    chain: _Chain,
    going: Iterable[Recorded],
    reporter: Reporter,
    stop: Stop,
    elasticsearch: str | None,
) -> dict[str, LucidError]:
    """Why some stay for now, by id."""
    hindered: dict[str, LucidError] = {}
    for record in going:
        if stop.event.is_set():
            break
        why = _snapshot_stays(record, elasticsearch)
        if why is not None:
            logger.warning("%s stays for now: %s", record.id, why.message)
            hindered[record.id] = why
            continue
        folder = chain.home(record)
        store.delete(manifest_path(folder, record.manifest))
        if record.kind is BackupKind.SLICE:
            for stored in record.manifest.objects:
                store.delete(stored.path)
            if record.proof is not None:
                store.delete(proof_path(folder, record.manifest))
        else:
            _empty(store, f"{folder.backups}/{record.id}")
        reporter.add(sum(o.stored_bytes for o in record.manifest.objects), 1)
    return hindered


def _snapshot_stays(record: Recorded, elasticsearch: str | None) -> LucidError | None:
    """A snapshot in the servers' own repository goes first: without the manifest nobody would know of it."""
    if not any(e.elasticsearch is not None and e.elasticsearch.snapshot for e in record.manifest.engines):
        return None
    from lucid_storage.jobs.elastic_backup import delete_taken

    if elasticsearch is None:
        return LucidError(
            "It has a snapshot in a repository of Elasticsearch, and there is no ELASTICSEARCH_URL to remove it.",
            reason=Reason.INVALID_SPEC,
        )
    try:
        delete_taken(record.manifest, elasticsearch)
    except LucidError as error:
        return error
    return None


def _elasticsearch(environ: Mapping[str, str]) -> str | None:
    try:
        return StoreSettings.read(environ).elasticsearch()
    except SettingsError as error:
        raise LucidError(str(error), reason=Reason.SECRET_INVALID) from error


def _empty(store: ObjectStore, below: str) -> None:
    for entry in list(store.list(below)):
        if entry.path.startswith(f"{below}/"):
            store.delete(entry.path)


def _discard(store: ObjectStore, chain: _Chain, ids: Iterable[str]) -> None:
    """What a stopped run left: it has no manifest, else it is a backup and goes the way of all backups."""
    there = {r.id for r in chain.records}
    for backup_id in ids:
        below = f"{chain.own.backups}/{backup_id}"
        store.delete_abandoned(below, None)
        if backup_id not in there and store.head(f"{below}/{MANIFEST}") is None:
            _empty(store, below)


def _tidy(store: ObjectStore, chain: _Chain, now: datetime, limit: datetime) -> None:
    """Data without a manifest of which nothing moved since `limit`, uploads that never ended, claims that ended.

    What a manifest names is data of a backup, whoever can read that manifest. Where one cannot be parsed, nobody knows
    what it names, and the data of slices are left alone.
    """
    named = {stored.path for record in chain.records for stored in record.manifest.objects}
    for folder in chain.folders:
        _tidy_folder(store, folder, named if not chain.unreadable else None, limit)
        holds.forget_ended(store, folder, now)


def _tidy_folder(store: ObjectStore, folder: ChainFolder, named: set[str] | None, limit: datetime) -> None:
    """`named`: data that belong to something; None where that is not known."""
    store.delete_abandoned(folder.path, limit)
    groups: dict[str, list[Entry]] = {}
    for entry in store.list(folder.backups):
        groups.setdefault(entry.path.removeprefix(f"{folder.backups}/").split("/", 1)[0], []).append(entry)
    for entries in groups.values():
        names = {e.path.rsplit("/", 1)[-1] for e in entries}
        if MANIFEST not in names and max(e.modified for e in entries) < limit:
            for entry in sorted(entries, key=lambda e: e.path.endswith(f"/{PROOF}")):
                store.delete(entry.path)
    if named is not None:
        left = [e.path for e in store.list(folder.slices) if e.path.endswith(".oplog") and e.modified < limit]
        for path in left:
            if path not in named:
                store.delete(path)


def run() -> int:
    """The command `lucid-storage prune`; returns its exit status."""
    return run_worker(PruneOrder, prune, failed)
