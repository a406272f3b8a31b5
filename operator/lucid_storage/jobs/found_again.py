"""A backup that lies there already: of a worker that was lost after its manifest, or of a cluster that was rebuilt.

Nothing is dumped again (rule 1.10). But what lies there may be about to go: its object was deleted with its data, and
is made again by Git while a prune worker removes them. So it is held first, and looked at then (rule 1.9).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from lucid_storage.archive.adoption import homes
from lucid_storage.archive.layout import MARK
from lucid_storage.archive.manifest import ObjectKind
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.records import manifest_digest, manifest_path
from lucid_storage.archive.restore_path import Blocked, to_backup
from lucid_storage.errors import Reason
from lucid_storage.jobs.destination import Place
from lucid_storage.jobs.held import held
from lucid_storage.jobs.proving import not_proved, prove, with_this
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.results import left_out, result_of, unchecked
from lucid_storage.jobs.worker import Stop
from lucid_storage.models.backup import Verify
from lucid_storage.models.orders import BackupOrder, BackupResult

logger = logging.getLogger(__name__)

MONGODB = frozenset({ObjectKind.MONGODB_ARCHIVE, ObjectKind.MONGODB_OPLOG})


def found_again(
    order: BackupOrder,
    place: Place,
    record: Recorded,
    records: Sequence[Recorded],
    environ: Mapping[str, str],
    reporter: Reporter,
    stop: Stop,
) -> BackupResult | None:
    """`record` is one of the chain's `records`. Without a proof of what lies there now, it is checked. None when it, or
    what it needs, is being removed: then it is to be made anew. What it stands on must be there and sound as well, or
    it is not called restorable. A check that is broken off is told with the backup that it is about.

    Raises DestinationError.
    """
    needed = _needed(record, records)
    with held(order, place.store, place.folder, [one.id for one in needed]) as going:
        sizes = _sizes(place) if not going else {}
        paths = [manifest_path(place.home(one.manifest), one.manifest) for one in needed]
        if going or any(path not in sizes for path in paths):
            logger.warning("the backup %s of this name is being removed; it is made anew", record.id)
            return None
        # The object is there again, so nobody wants its data gone any more.
        place.store.delete(f"{place.home(record.manifest).backups}/{record.id}/{MARK}")
        lacking = _lacking(record, needed, sizes)
        hindered = _hindered(record, records, lacking)
        if hindered is not None and hindered.reason is not Reason.KEY_MISSING:
            record = Recorded(record.manifest, record.trust)  # what was proved is not what lies there now
        if record.proof is not None:
            note = not_proved(order.verify, record.manifest, record.proof)
        else:
            if order.verify is Verify.UPLOAD:
                # Nobody saw the destination confirm it: what lies there has to be read.
                order = order.model_copy(update={"verify": Verify.CHECKSUM})
            known = manifest_digest(place.store, place.home(record.manifest), record.manifest)
            try:
                proof, note = prove(order, place, record.manifest, environ, reporter, stop)
            except Exception as error:  # noqa: BLE001 - its data are there, and its object is to know of them
                there = Recorded(record.manifest, record.trust)
                gone = left_out(record.manifest)
                return unchecked(result_of(order, place, there, gone, None, None, known), stop, error)
            record = Recorded(record.manifest, record.trust, proof)
            hindered = _hindered(record, place.records(), lacking)  # slices that were put back are good again
        result = result_of(order, place, record, left_out(record.manifest), note, None)
        return result if hindered is None else _unproved(result, hindered)


def _needed(record: Recorded, records: Sequence[Recorded]) -> list[Recorded]:
    """What a restore of it reads, as far as that is there."""
    path = to_backup(with_this(records, record.manifest), record.id)
    pieces = [] if isinstance(path, Blocked) else [path.full, *path.then]
    return list({one.id: one for one in (record, *pieces)}.values())


def _lacking(record: Recorded, needed: Sequence[Recorded], sizes: Mapping[str, int]) -> str | None:
    """An object that a restore of it reads and that is gone or not whole. Of a base, what MongoDB needs."""
    return next(
        (
            stored.path
            for one in needed
            for stored in one.manifest.objects
            if (one.id == record.id or stored.kind in MONGODB)
            and sizes.get(stored.path) != stored.stored_bytes
        ),
        None,
    )


def _hindered(record: Recorded, records: Sequence[Recorded], lacking: str | None) -> Blocked | None:
    """Why one whose own check passed cannot be restored; None when it can, or when its own check says what is wrong."""
    if not record.proved:
        return None
    if lacking is not None:
        return Blocked(
            Reason.VERIFY_FAILED, f"The object {lacking}, which it stands on, is gone or not whole."
        )
    path = to_backup(records, record.id)
    return path if isinstance(path, Blocked) else None


def _unproved(result: BackupResult, hindered: Blocked) -> BackupResult:
    """Its own data were read, which is no proof that they can be restored."""
    update: dict[str, object] = {"verified": None, "verified_at": None, "verify_seconds": None}
    if hindered.reason is Reason.KEY_MISSING:
        said = f"{hindered.message} Then delete this Backup with deletionPolicy: Retain and make it again."
        update |= {"verify_note": str(Reason.KEY_MISSING), "verify_message": said}
    else:
        update |= {"ok": False, "reason": Reason.VERIFY_FAILED, "message": hindered.message}
    return result.model_copy(update=update)


def _sizes(place: Place) -> dict[str, int]:
    """Of all that lies in the chain, by path."""
    folders = homes(place.store, place.folder)
    return {entry.path: entry.size for folder in folders for entry in place.store.list(folder.path)}
