"""The check of a written backup, and the proof that it leaves (rule 1.11).

A level holds the ones before it: Upload was confirmed by the destination while the objects were written, Checksum reads
every byte back and compares contents with the manifest, Restore loads them into a scratch place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

from lucid_storage.archive.manifest import BackupKind, Manifest, Proof, ProofLevel, StoredObject
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.records import write_proof
from lucid_storage.archive.restore_path import Blocked, to_backup
from lucid_storage.archive.streams import key_for
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs import slice_proving
from lucid_storage.jobs.checks import CHECKS
from lucid_storage.jobs.contract import CancelledError, Source
from lucid_storage.jobs.destination import Place
from lucid_storage.jobs.notes import Note
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.worker import Stop
from lucid_storage.models.backup import Verify
from lucid_storage.models.orders import BackupOrder

logger = logging.getLogger(__name__)

READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Examined:
    """What a check found."""

    proof: Proof
    note: Note | None
    slices: tuple[tuple[Manifest, Proof], ...] = ()
    """Slices that were read and of which there is something new to say."""


def prove(
    order: BackupOrder,
    place: Place,
    manifest: Manifest,
    environ: Mapping[str, str],
    reporter: Reporter,
    stop: Stop,
) -> tuple[Proof, Note | None]:
    """The proof, written beside the manifest, and why it is not of the level that was asked for.

    Raises LucidError as `examine` does, and when the proof cannot be written.
    """

    def keep(proof: Proof) -> None:
        write_proof(place.store, place.home(manifest), proof, key_for(manifest.packing, place.keyring))

    found = examine(order, place, manifest, environ, reporter, stop, keep)
    keep(found.proof)
    prove_slices(order, place, manifest, found, stop)
    return found.proof, found.note


def prove_slices(order: BackupOrder, place: Place, manifest: Manifest, found: Examined, stop: Stop) -> None:
    """Proofs of slices, after that of the backup. Raises DestinationError."""
    slice_proving.keep(place, found.slices)
    if manifest.kind is BackupKind.FULL and order.verify is not Verify.UPLOAD:
        seconds = order.deadline_seconds / slice_proving.TIME_SHARE

        def look(place: Place, manifest: Manifest, stored: StoredObject) -> None:
            _check(place, manifest, stored, stop)

        slice_proving.check_behind(place, manifest, seconds, look)


def examine(
    order: BackupOrder,
    place: Place,
    manifest: Manifest,
    environ: Mapping[str, str],
    reporter: Reporter,
    stop: Stop,
    keep: Callable[[Proof], object],
) -> Examined:
    """What a check finds now, and why it is not of the level that was asked for. Writes nothing; a Checksum that passed
    is given to `keep` before a restore, whose end may be that of this worker too.

    A check that finds a difference makes a proof that did not pass. Raises LucidError when the destination cannot be
    read now, and CancelledError: then there is no other proof, and the next worker checks again.
    """
    reporter.phase("Verifying", sum(o.stored_bytes for o in manifest.objects))
    begun = monotonic()
    note: Note | None = None
    level, message = ProofLevel.UPLOAD, ""
    slices: list[tuple[Manifest, Proof]] = []
    if order.verify is not Verify.UPLOAD:
        level = ProofLevel.CHECKSUM
        message = _difference(place, manifest, reporter, stop, slices)
    if not message and order.verify is Verify.RESTORE:
        keep(_proof(manifest, level, message, begun))
        level, message, note = _restored(order, place, manifest, environ, reporter, stop)
    proof = _proof(manifest, level, message, begun)
    return Examined(proof, _with_snapshots(note, manifest, level), tuple(slices))


def not_proved(asked: Verify, manifest: Manifest, proof: Proof) -> Note | None:
    """Why a proof that lies there from before is not of the level that is asked for now, or not of all that the backup
    stands for.
    """
    note = None
    if asked is Verify.RESTORE and proof.level is not ProofLevel.RESTORE:
        note = Note(
            Reason.NO_VERIFY_SERVER,
            "It lay there already, and was not restored for its proof when it was made; `lucid-storage verify` proves"
            " it anew, and so does a Backup of another name.",
        )
    return _with_snapshots(note, manifest, proof.level)


def _proof(manifest: Manifest, level: ProofLevel, message: str, begun: float) -> Proof:
    """Of now. `message` is what is wrong; `begun` is by the monotonic clock."""
    return Proof(
        id=manifest.id,
        level=level,
        at=datetime.now(UTC),
        seconds=round(monotonic() - begun),
        passed=not message,
        message=message,
    )


def _restored(
    order: BackupOrder,
    place: Place,
    manifest: Manifest,
    environ: Mapping[str, str],
    reporter: Reporter,
    stop: Stop,
) -> tuple[ProofLevel, str, Note | None]:
    """As `prove_by_restore`. A deadline that it did not keep makes no backup bad that was read back and compared."""
    from lucid_storage.jobs.restore_proof import prove_by_restore

    try:
        return prove_by_restore(order, place, manifest, environ, reporter, stop)
    except LucidError:
        if stop.reason is not Reason.DEADLINE_EXCEEDED:
            raise
    return (
        ProofLevel.CHECKSUM,
        "",
        Note(
            Reason.DEADLINE_EXCEEDED,
            "It was read back and compared, and its proof by a restore was not done when the time of its Job was over;"
            " see why, or raise BACKUP_DEADLINE_SECONDS.",
        ),
    )


def _with_snapshots(note: Note | None, manifest: Manifest, level: ProofLevel) -> Note | None:
    """What lies in snapshots alone weighs more than any other note: rpoSeconds does not count it (rule 1.11)."""
    snapshots = _snapshots(manifest, level)
    if snapshots is None or note is None:
        return snapshots or note
    return Note(snapshots.reason, f"{snapshots.message} {note.message}")


def _snapshots(manifest: Manifest, level: ProofLevel) -> Note | None:
    """What no reading of the destination says anything about."""
    if manifest.repositories and level is not ProofLevel.RESTORE:
        return Note(
            Reason.SNAPSHOT_ONLY,
            f"The documents of Elasticsearch lie in the repository {manifest.repositories[0]} of its servers, and"
            " nobody read them back; ask for verify: Restore, or use method Export.",
        )
    if any(v.snapshot is not None for e in manifest.engines for v in e.volumes):
        return Note(
            Reason.SNAPSHOT_ONLY,
            "A volume is in a snapshot inside the cluster alone, which is no proof against the loss of the cluster; use"
            " method Archive for a backup outside of it.",
        )
    return None


def _difference(
    place: Place,
    manifest: Manifest,
    reporter: Reporter,
    stop: Stop,
    slices: list[tuple[Manifest, Proof]],
) -> str:
    """What is wrong with the objects as they lie there; empty when nothing is."""
    try:
        for owner, stored in parts(place, manifest):
            message = _wrong(place, owner.manifest, stored, stop)
            judged = slice_proving.verdict(owner, message) if owner.kind is BackupKind.SLICE else None
            if judged is not None:
                slices.append((owner.manifest, judged))
            if message:
                return message
            reporter.add(stored.stored_bytes)
    except LucidError as error:
        if not slice_proving.is_damage(error):
            raise  # nothing was found out: the destination is away, or a key
        return error.message
    return ""


def _wrong(place: Place, manifest: Manifest, stored: StoredObject, stop: Stop) -> str:
    try:
        _check(place, manifest, stored, stop)
    except LucidError as error:
        if not slice_proving.is_damage(error):
            raise
        return error.message
    return ""


def parts(place: Place, manifest: Manifest) -> list[tuple[Recorded, StoredObject]]:
    """The objects that a backup consists of: an incremental's are the slices behind the backup before it.

    Raises LucidError(VerifyFailed) when they do not lead there, LucidError(KeyMissing).
    """
    own = [(Recorded(manifest), stored) for stored in manifest.objects]
    mongodb = manifest.mongodb
    if manifest.kind is not BackupKind.INCREMENTAL or mongodb is None:
        return own
    records = place.records()
    path = to_backup(with_this(records, manifest), manifest.id)
    if isinstance(path, Blocked):
        reason = path.reason if path.reason is Reason.KEY_MISSING else Reason.VERIFY_FAILED
        raise LucidError(path.message, reason=reason)
    known = {record.id: record for record in records}
    pieces = [known[p.id] for p in path.then if p.to is not None and p.to.optime > mongodb.from_optime]
    return [*own, *((piece, stored) for piece in pieces for stored in piece.manifest.objects)]


def with_this(records: Iterable[Recorded], manifest: Manifest) -> list[Recorded]:
    """What lies in the chain, and this backup as one that is good so far. Slices are judged anew."""
    checked = Proof(
        id=manifest.id, level=ProofLevel.CHECKSUM, at=manifest.completed_at, seconds=0, passed=True
    )
    others = (
        Recorded(r.manifest, r.trust) if r.kind is BackupKind.SLICE else r
        for r in records
        if r.id != manifest.id
    )
    return [*others, Recorded(manifest, proof=checked)]


def _check(place: Place, manifest: Manifest, stored: StoredObject, stop: Stop) -> None:
    source = _Stoppable(place.source(manifest, stored), stop)
    try:
        CHECKS[stored.kind](source, manifest, stored)
        while source.read(READ_BYTES):
            pass  # checksum and authentication are complete at the end only
    finally:
        source.close()


class _Stoppable:
    """A source whose reading ends when the worker is to end."""

    def __init__(self, source: Source, stop: Stop) -> None:
        self._source = source
        self._stop = stop

    def read(self, size: int = -1, /) -> bytes:
        if self._stop.event.is_set():
            raise CancelledError("The check was stopped.")
        return self._source.read(size)

    def close(self) -> None:
        self._source.close()
