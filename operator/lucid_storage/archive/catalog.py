"""What lies in a destination, from the destination and the keys alone: for a cluster that knows nothing any more."""

from __future__ import annotations

from datetime import datetime

from lucid_storage.archive.chains import Chain, find_chains, read_chain
from lucid_storage.archive.continuity import as_second, restorable, runs, windows
from lucid_storage.archive.destination import ObjectStore
from lucid_storage.archive.keys import Keyring
from lucid_storage.archive.layout import ChainFolder
from lucid_storage.archive.manifest import BackupKind, Closing, Manifest, Proof, Record
from lucid_storage.archive.recorded import Recorded, Trust
from lucid_storage.models.pruning import Span


class ListedBackup(Record):
    """One backup as the catalog lists it. What it says of itself counts only where `trust` allows it."""

    id: str
    name: str
    type: BackupKind
    timeline: str
    base: str | None
    engines: tuple[str, ...]
    outside: tuple[str, ...]
    """Those of them whose data lie elsewhere: in a repository of the store's own, or in the cluster's snapshots."""
    from_time: datetime
    to: datetime
    completed_at: datetime
    content_bytes: int
    """Before compression."""
    stored_bytes: int
    encrypted: bool
    key_id: str | None
    key_fingerprint: str | None
    trust: Trust
    proof: Proof | None
    restorable: bool
    """Good, it has data here, and its own end can be reached with what lies here."""


class ListedTimeline(Record):
    """One timeline: what can be restored to the second."""

    id: str
    slices: int
    slice_bytes: int
    recoverable: tuple[Span, ...]
    closed: Closing | None


class BrokenManifest(Record):
    """An object in the place of a manifest that is none, or that was changed."""

    path: str
    message: str


class ListedChain(Record):
    """One chain of one namespace of one cluster."""

    prefix: str
    """Folder that it lies below: `prefix` of a bucket and `path` of a volume in a Restore."""
    cluster: str
    namespace: str
    chain: str
    backups: tuple[ListedBackup, ...]
    timelines: tuple[ListedTimeline, ...]
    broken: tuple[BrokenManifest, ...]


class Catalog(Record):
    """Everything in one destination."""

    location: str
    chains: tuple[ListedChain, ...]


def read_catalog(store: ObjectStore, root: str, keyring: Keyring) -> Catalog:
    """Raises DestinationError."""
    chains = (read_chain(store, folder, keyring) for folder in find_chains(store, root))
    return Catalog(location=store.location, chains=tuple(listed(chain) for chain in chains))


def listed(chain: Chain) -> ListedChain:
    """Pure: a chain as it is shown."""
    folder, records = chain.folder, chain.records
    reachable = {record.id for record in restorable(chain.whole)}
    timelines = dict.fromkeys(record.manifest.timeline for record in sorted(records, key=lambda r: r.moment))
    changed = [record for record in records if record.trust is Trust.BROKEN]
    return ListedChain(
        prefix=folder.root,
        cluster=folder.cluster,
        namespace=folder.namespace,
        chain=folder.chain,
        backups=tuple(_backup(record, record.id in reachable) for record in chain.backups),
        timelines=tuple(_timeline(timeline, chain) for timeline in timelines),
        broken=(
            *(BrokenManifest(path=one.path, message=one.message) for one in chain.unreadable),
            *(_changed(folder, record) for record in changed),
        ),
    )


def _backup(record: Recorded, reachable: bool) -> ListedBackup:
    manifest, mongodb = record.manifest, record.manifest.mongodb
    first, last = moments(manifest)
    inside, outside = data_here(manifest)
    return ListedBackup(
        id=manifest.id,
        name=manifest.origin.name,
        type=manifest.kind,
        timeline=manifest.timeline,
        base=manifest.base,
        engines=(*inside, *outside),
        outside=outside,
        from_time=first,
        to=last,
        completed_at=manifest.completed_at,
        content_bytes=sum(o.plain_bytes for o in manifest.objects)
        + (mongodb.slices_plain_bytes if mongodb is not None else 0),
        stored_bytes=sum(o.stored_bytes for o in manifest.objects)
        + (mongodb.slices_bytes if mongodb is not None else 0),
        encrypted=manifest.packing.encrypted,
        key_id=manifest.packing.key_id,
        key_fingerprint=manifest.packing.key_fingerprint,
        trust=record.trust,
        proof=record.proof,
        restorable=reachable and bool(inside),
    )


def _timeline(timeline: str, chain: Chain) -> ListedTimeline:
    own = [record for record in chain.whole if record.manifest.timeline == timeline]
    slices = [r for r in own if r in chain.records and r.kind is BackupKind.SLICE and r.readable]
    found = runs(own, timeline)
    return ListedTimeline(
        id=timeline,
        slices=len(slices),
        slice_bytes=sum(stored.stored_bytes for record in slices for stored in record.manifest.objects),
        recoverable=tuple(Span(first=window.from_time, last=window.to) for window in windows(own)),
        closed=found[-1].closing if found else None,
    )


def _changed(folder: ChainFolder, record: Recorded) -> BrokenManifest:
    manifest = record.manifest
    prev = manifest.prev
    if manifest.kind is BackupKind.SLICE and prev is not None:
        path = folder.slice_manifest(manifest.timeline, prev.optime)
    else:
        path = folder.manifest(manifest.id)
    return BrokenManifest(
        path=path, message=f"{path} was changed after it was written; nothing in it counts."
    )


def data_here(manifest: Manifest) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The engines whose data lie in the destination, and those of which it holds only the description."""
    outside = tuple(
        part.engine
        for part in manifest.engines
        if (part.elasticsearch is not None and part.elasticsearch.snapshot is not None)
        or (part.volumes and all(volume.snapshot is not None for volume in part.volumes))
    )
    return tuple(part.engine for part in manifest.engines if part.engine not in outside), outside


def moments(manifest: Manifest) -> tuple[datetime, datetime]:
    """Since when and until when the data were read. A backup without MongoDB has the moments of its engines."""
    mongodb = manifest.mongodb
    if mongodb is not None:
        return as_second(mongodb.from_optime), as_second(mongodb.to.optime)
    taken = [engine.taken_at for engine in manifest.engines] or [manifest.completed_at]
    return min(taken), max(taken)
