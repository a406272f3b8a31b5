"""How a prune worker removes: a manifest before its data, then what is left of what others removed or never ended.

Whatever ends the worker, no manifest claims what is gone; the next one finds what is left.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from lucid_storage.archive.destination import Entry, ObjectStore
from lucid_storage.archive.layout import MANIFEST, PROOF, ChainFolder
from lucid_storage.archive.manifest import BackupKind
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.records import manifest_path, proof_path
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.prune_chain import Chain
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.worker import Stop
from lucid_storage.models.pruning import PruneOrder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Removal:
    """What became of what was to go. A worker that is stopped leaves the rest as it is."""

    gone: set[str] = field(default_factory=set)
    hindered: dict[str, LucidError] = field(default_factory=dict)
    """Why some stay for now, by id."""

    def emptied(self, chain: Chain) -> bool:
        """Whether nothing is left of the chain: then the claim of whoever removed it is all that tells of it."""
        return not chain.unreadable and self.gone.issuperset(chain.ids)


def remove(
    store: ObjectStore,
    chain: Chain,
    going: Iterable[Recorded],
    reporter: Reporter,
    stop: Stop,
    elasticsearch: str | None,
) -> Removal:
    """Removes them in this order, until the worker is stopped. Raises DestinationError."""
    done = Removal()
    for record in going:
        if stop.event.is_set():
            break
        why = _snapshot_stays(record, elasticsearch)
        if why is not None:
            logger.warning("%s stays for now: %s", record.id, why.message)
            done.hindered[record.id] = why
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
        done.gone.add(record.id)
        reporter.add(sum(o.stored_bytes for o in record.manifest.objects), 1)
    return done


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


def _empty(store: ObjectStore, below: str) -> None:
    for entry in list(store.list(below)):
        if entry.path.startswith(f"{below}/"):
            store.delete(entry.path)


def discard(store: ObjectStore, chain: Chain, order: PruneOrder) -> None:
    """What a stopped run left, and a worker that was killed while it removed: it has no manifest, else it is a backup
    and goes the way of all backups.
    """
    for backup_id in order.discard:
        store.delete_abandoned(f"{chain.own.backups}/{backup_id}", None)
    broken_off = chain.left.intersection((*order.remove, *order.expire))
    for backup_id in broken_off.union(order.discard) - chain.ids:
        for folder in chain.folders:
            if store.head(folder.manifest(backup_id)) is None:
                _empty(store, f"{folder.backups}/{backup_id}")


def tidy(store: ObjectStore, chain: Chain, limit: datetime) -> None:
    """Data without a manifest of which nothing moved since `limit`, and uploads that never ended.

    What a manifest names is data of a backup, whoever can read that manifest. Where one cannot be parsed, nobody knows
    what it names, and the data of slices are left alone.
    """
    named = {stored.path for record in chain.records for stored in record.manifest.objects}
    for folder in chain.folders:
        _tidy_folder(store, folder, named if not chain.unreadable else None, limit)


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
