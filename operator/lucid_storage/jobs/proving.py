"""The check of a written backup, and the proof that it leaves (rule 1.11).

A level holds the ones before it: Upload was confirmed by the destination while the objects were written, Checksum reads
every byte back and compares contents with the manifest, Restore loads them into a scratch place.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from time import monotonic

from lucid_storage.archive.manifest import BackupKind, Manifest, Proof, ProofLevel, StoredObject
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.records import write_proof
from lucid_storage.archive.restore_path import Blocked, to_backup
from lucid_storage.archive.streams import key_for
from lucid_storage.errors import ArchiveDamagedError, LucidError, Reason
from lucid_storage.jobs.checks import CHECKS
from lucid_storage.jobs.destination import Place
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.models.backup import Verify
from lucid_storage.models.orders import BackupOrder

logger = logging.getLogger(__name__)

READ_BYTES = 1024 * 1024


def prove(
    order: BackupOrder, place: Place, manifest: Manifest, environ: Mapping[str, str], reporter: Reporter
) -> tuple[Proof, str | None]:
    """The proof, written beside the manifest, and why it is not of the level that was asked for.

    Raises LucidError as `examine` does, and when the proof cannot be written.
    """
    proof, note = examine(order, place, manifest, environ, reporter)
    write_proof(place.store, place.home(manifest), proof, key_for(manifest.packing, place.keyring))
    return proof, note


def examine(
    order: BackupOrder, place: Place, manifest: Manifest, environ: Mapping[str, str], reporter: Reporter
) -> tuple[Proof, str | None]:
    """What a check finds now, and why it is not of the level that was asked for. Writes nothing.

    A check that finds a difference makes a proof that did not pass. Raises LucidError when the destination cannot be
    read now: then there is no proof, and the next worker checks again.
    """
    reporter.phase("Verifying", sum(o.stored_bytes for o in manifest.objects))
    begun = monotonic()
    note: str | None = None
    level, message = ProofLevel.UPLOAD, ""
    passed = True
    if order.verify is not Verify.UPLOAD:
        level = ProofLevel.CHECKSUM
        message = _difference(place, manifest, reporter)
        passed = not message
    if passed and order.verify is Verify.RESTORE:
        from lucid_storage.jobs.restore_proof import prove_by_restore

        level, message, note = prove_by_restore(order, place, manifest, environ, reporter)
        passed = not message
    if note is None and any(v.snapshot is not None for e in manifest.engines for v in e.volumes):
        note = Reason.SNAPSHOT_ONLY.value
    proof = Proof(
        id=manifest.id,
        level=level,
        at=datetime.now(UTC),
        seconds=round(monotonic() - begun),
        passed=passed,
        message=message,
    )
    return proof, note


def _difference(place: Place, manifest: Manifest, reporter: Reporter) -> str:
    """What is wrong with the objects as they lie there; empty when nothing is."""
    try:
        for owner, stored in parts(place, manifest):
            _check(place, owner, stored)
            reporter.add(stored.stored_bytes)
    except LucidError as error:
        if not isinstance(error, ArchiveDamagedError) and error.reason is not Reason.VERIFY_FAILED:
            raise  # nothing was found out: the destination is away, or a key
        return error.message
    return ""


def parts(place: Place, manifest: Manifest) -> list[tuple[Manifest, StoredObject]]:
    """The objects that a backup consists of: an incremental's are the slices behind the backup before it.

    Raises LucidError(VerifyFailed) when they do not lead there, LucidError(KeyMissing).
    """
    own = [(manifest, stored) for stored in manifest.objects]
    mongodb = manifest.mongodb
    if manifest.kind is not BackupKind.INCREMENTAL or mongodb is None:
        return own
    path = to_backup(with_this(place, manifest), manifest.id)
    if isinstance(path, Blocked):
        reason = path.reason if path.reason is Reason.KEY_MISSING else Reason.VERIFY_FAILED
        raise LucidError(path.message, reason=reason)
    pieces = [p.manifest for p in path.then if p.to is not None and p.to.optime > mongodb.from_optime]
    return [*own, *((piece, stored) for piece in pieces for stored in piece.objects)]


def with_this(place: Place, manifest: Manifest) -> list[Recorded]:
    """What lies in the chain, and this backup as one that is good so far."""
    checked = Proof(
        id=manifest.id, level=ProofLevel.CHECKSUM, at=manifest.completed_at, seconds=0, passed=True
    )
    others = (record for record in place.records() if record.id != manifest.id)
    return [*others, Recorded(manifest, proof=checked)]


def _check(place: Place, manifest: Manifest, stored: StoredObject) -> None:
    source = place.source(manifest, stored)
    try:
        CHECKS[stored.kind](source, manifest, stored)
        while source.read(READ_BYTES):
            pass  # checksum and authentication are complete at the end only
    finally:
        source.close()
