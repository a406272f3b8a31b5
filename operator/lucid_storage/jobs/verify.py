"""The verify worker: proves one backup again, long after it was made (rule 1.11).

What it finds replaces the proof, so that a backup which rotted is no base and not the last good one any more. Only a
check that looked at least as closely can make a failed one good again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from lucid_storage.archive.manifest import Manifest, Proof, ProofLevel
from lucid_storage.archive.recorded import Recorded, Trust
from lucid_storage.archive.records import write_proof
from lucid_storage.archive.restore_path import Blocked, to_backup
from lucid_storage.archive.streams import key_for
from lucid_storage.errors import (
    ArchiveDamagedError,
    KeyMissingError,
    LucidError,
    Reason,
    RefusedError,
)
from lucid_storage.jobs.destination import Place
from lucid_storage.jobs.held import held
from lucid_storage.jobs.proving import examine, prove_slices
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.results import result_of
from lucid_storage.jobs.worker import Stop, run_worker
from lucid_storage.models.backup import Verify
from lucid_storage.models.orders import BackupOrder, BackupResult, VerifyOrder

CLOSENESS = (ProofLevel.UPLOAD, ProofLevel.CHECKSUM, ProofLevel.RESTORE)


def failed(order: VerifyOrder, reason: Reason, message: str) -> BackupResult:
    """A result that says why nothing was found out."""
    return BackupResult(run=order.run, ok=False, reason=reason, message=message, id=order.backup_id)


def verify(order: VerifyOrder, environ: Mapping[str, str], reporter: Reporter, stop: Stop) -> BackupResult:
    """Checks and writes the proof. Raises LucidError when nothing was found out; the proof is as it was then, but for a
    Checksum that passed before a restore which came to no end.
    """
    place = Place.of(order, environ)
    listing = place.listing()
    records = list(listing.records)
    listing.refuse_damaged(place.folder.manifest(order.backup_id))
    record = _wanted(order, records)
    manifest = record.manifest
    as_made = _as_made(order, manifest)

    def keep(proof: Proof) -> Proof:
        settled = settle(record.proof, proof)
        if settled is not record.proof:
            write_proof(place.store, place.home(manifest), settled, key_for(manifest.packing, place.keyring))
        return settled

    with _reading(order, place, records):
        found = examine(as_made, place, manifest, environ, reporter, stop, keep)
        proof = found.proof
        if proof.level is ProofLevel.UPLOAD and proof.passed:
            proof = _uploaded(place, manifest, proof)
        if stop.event.is_set():
            raise LucidError("The check was stopped.", reason=Reason.CANCELLED)
        settled = keep(proof)
        prove_slices(as_made, place, manifest, found, stop)
    return result_of(as_made, place, Recorded(manifest, record.trust, settled), (), found.note, None)


def settle(before: Proof | None, now: Proof) -> Proof:
    """Which of two proofs holds.

    A check that looked less closely than one that failed says nothing about what that found; and one that only saw
    that the objects are there says less than one that once read them.
    """
    if before is None or not now.passed:
        return now
    looser = CLOSENESS.index(now.level) < CLOSENESS.index(before.level)
    return before if looser and (not before.passed or now.level is ProofLevel.UPLOAD) else now


def _wanted(order: VerifyOrder, records: list[Recorded]) -> Recorded:
    record = next((r for r in records if r.id == order.backup_id), None)
    if record is None:
        raise RefusedError(
            f"No backup with the id {order.backup_id} lies in the destination; see `lucid-storage catalog`.",
            reason=Reason.RESTORE_BLOCKED,
        )
    if record.trust is Trust.KEY_MISSING:
        raise KeyMissingError(
            f"The backup {record.id} was written with the key {record.manifest.packing.key_id}, which is missing or"
            " another one; put that key back under its id."
        )
    if record.trust is Trust.BROKEN:
        # It already counts for nothing, and a proof of ours would speak for words that are not ours.
        raise ArchiveDamagedError(
            f"The manifest of the backup {record.id} was changed after it was written, so nothing in it counts;"
            " restore another backup.",
        )
    return record


def _as_made(order: VerifyOrder, manifest: Manifest) -> BackupOrder:
    """The order that such a backup is made by, since a check is the same as after making it."""
    return BackupOrder.model_validate(
        {
            **order.model_dump(),
            "id": manifest.id,
            "type": manifest.kind,
            "engines": [engine.engine for engine in manifest.engines],
        }
    )


def _uploaded(place: Place, manifest: Manifest, proof: Proof) -> Proof:
    """Whether the objects are there in their full size, which is all that the destination knows of them now."""
    for stored in manifest.objects:
        entry = place.store.head(stored.path)
        if entry is None or entry.size != stored.stored_bytes:
            found = "is gone" if entry is None else f"has {entry.size} bytes instead of {stored.stored_bytes}"
            return proof.model_copy(update={"passed": False, "message": f"The object {stored.path} {found}."})
    return proof


@contextmanager
def _reading(order: VerifyOrder, place: Place, records: list[Recorded]) -> Iterator[None]:
    """What is read is held meanwhile (rule 1.9)."""
    ids = {order.backup_id}
    if order.verify is not Verify.UPLOAD:
        path = to_backup(records, order.backup_id)
        if not isinstance(path, Blocked):
            ids |= {path.full.id, *(piece.id for piece in path.then)}
    with held(order, place.store, place.folder, ids) as going:
        if going:
            raise RefusedError(
                f"The backup {min(going)} is being removed by retention right now; there is nothing to prove.",
                reason=Reason.VERIFY_FAILED,
            )
        yield


def run() -> int:
    """The command `lucid-storage verify` with an order; returns its exit status."""
    return run_worker(VerifyOrder, verify, failed)
