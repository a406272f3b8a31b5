"""What a backup worker says at the end, made of manifest and proof: the same for one just made and one found."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime

from lucid_storage.archive.decision import Decision
from lucid_storage.archive.manifest import (
    ElasticRecord,
    EngineRecord,
    Manifest,
    MongoRecord,
    RedisRecord,
    Selection,
)
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.records import manifest_digest
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.destination import Place
from lucid_storage.jobs.notes import Note
from lucid_storage.jobs.volume_told import sentence as volumes_sentence
from lucid_storage.jobs.worker import Stop
from lucid_storage.models.backup import BackupEngine, BackupType, Verify
from lucid_storage.models.orders import BackupOrder, BackupResult, EngineOutcome

logger = logging.getLogger(__name__)


def made_before(order: BackupOrder, records: Iterable[Recorded]) -> Recorded | None:
    """The backup of this very object, if it lies there: by its id, or by its name and the hash of its spec."""
    for record in records:
        origin = record.manifest.origin
        same = (origin.namespace, origin.name, origin.spec_hash) == (
            order.owner.namespace,
            order.owner.name,
            order.owner.spec_hash,
        )
        if record.readable and (record.id == order.id or (same and record.manifest.kind != "slice")):
            return record
    return None


def outcome_of(engine: BackupEngine, error: LucidError) -> EngineOutcome:
    """Of an engine whose data could not be taken."""
    return EngineOutcome(engine=engine, ok=False, reason=error.reason, message=error.message)


def left_out(manifest: Manifest) -> tuple[EngineOutcome, ...]:
    """The engines that failed when a backup was made, as its manifest tells: found again it is no better."""
    taken = {engine.engine for engine in manifest.engines}
    said = "It failed when the backup was made, and is not in it."
    return tuple(
        EngineOutcome(engine=BackupEngine(e), ok=False, reason=Reason.PARTIALLY_FAILED, message=said)
        for e in manifest.selection.engines
        if e not in taken
    )


def result_of(
    order: BackupOrder,
    place: Place,
    record: Recorded,
    failures: tuple[EngineOutcome, ...],
    note: Note | None,
    decision: Decision | None,
    digest: str | None = None,
) -> BackupResult:
    """`note` says why a higher level of proof was not reached; `digest` is the manifest's, read anew without it."""
    manifest, proof = record.manifest, record.proof
    passed = proof is not None and proof.passed
    reason = Reason.VERIFY_FAILED if not passed else Reason.PARTIALLY_FAILED if failures else None
    message = proof.message if proof is not None and not passed else _said(failures, decision)
    first, last = _moments(manifest)
    mongodb = manifest.mongodb
    return BackupResult(
        run=order.run,
        ok=passed and not failures,
        reason=reason,
        message=message,
        id=manifest.id,
        type=BackupType(manifest.kind),
        timeline=manifest.timeline,
        base=manifest.base,
        parent=manifest.parent,
        from_optime=str(mongodb.from_optime) if mongodb is not None else None,
        to_optime=str(mongodb.to.optime) if mongodb is not None else None,
        from_time=first,
        to=last,
        engines=(*(_outcome(manifest, e) for e in manifest.engines), *failures),
        manifest_sha256=digest or manifest_digest(place.store, place.home(manifest), manifest),
        location=f"{place.store.location}/{place.home(manifest).backups}/{manifest.id}",
        server_identity=mongodb.identity if mongodb is not None else None,
        verified=Verify(record.level) if record.level is not None else None,
        verify_note=str(note.reason) if note is not None else None,
        verify_message=note.message if note is not None else "",
        verified_at=proof.at if proof is not None and passed else None,
        verify_seconds=proof.seconds if proof is not None else None,
        completed_at=manifest.completed_at,
    )


def unchecked(result: BackupResult, stop: Stop, error: Exception) -> BackupResult:
    """Of one that was written, and whose check was broken off: whoever deletes it has data to remove. An error that is
    no LucidError is a defect, and goes into the log.
    """
    if not isinstance(error, LucidError):
        logger.error("a defect of the check", exc_info=error)
        said = "A defect of the worker; the log of its pod has details."
        error = LucidError(said, reason=Reason.INTERNAL_ERROR)
    why = stop.message if stop.reason is not None else error.message
    said = f"It was written, and its check was broken off: {why}"
    return result.model_copy(update={"ok": False, "reason": stop.reason or error.reason, "message": said})


def _said(failures: tuple[EngineOutcome, ...], decision: Decision | None) -> str:
    if failures:
        return " ".join(f"{f.engine}: {f.message}" for f in failures)
    return decision.note if decision is not None else ""


def _moments(manifest: Manifest) -> tuple[datetime, datetime]:
    mongodb = manifest.mongodb
    if mongodb is None:
        taken = [e.taken_at for e in manifest.engines]
        return min(taken), max(taken)
    return _clock(mongodb.from_optime.seconds), _clock(mongodb.to.optime.seconds)


def _clock(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _outcome(manifest: Manifest, record: EngineRecord) -> EngineOutcome:
    engine, mongodb = BackupEngine(record.engine), record.mongodb
    stored = [
        o for o in manifest.objects if o.kind.startswith(f"{'volume' if engine == 'volumes' else engine}.")
    ]
    return EngineOutcome(
        engine=engine,
        ok=True,
        message=" ".join([*filter(None, [volumes_sentence(record.volumes)]), *record.notes]) or None,
        documents=_documents(record.mongodb or record.redis or record.elasticsearch)
        + sum(volume.files for volume in record.volumes),
        size_bytes=sum(o.plain_bytes for o in stored) + (mongodb.slices_plain_bytes if mongodb else 0),
        stored_bytes=sum(o.stored_bytes for o in stored) + (mongodb.slices_bytes if mongodb else 0),
        taken_at=record.taken_at,
        server_identity=_server(record),
        unencrypted=True if record.elasticsearch is not None and record.elasticsearch.snapshot else None,
        in_cluster=True if any(volume.snapshot is not None for volume in record.volumes) else None,
    )


def _server(record: EngineRecord) -> str | None:
    """A master's replication id names no Redis: it is another one after each failover."""
    part = record.mongodb or record.elasticsearch
    return part.identity if part is not None else None


def _documents(part: MongoRecord | RedisRecord | ElasticRecord | None) -> int:
    match part:
        case MongoRecord():
            return sum(c.documents for c in part.collections) + sum(
                o.inserts + o.updates + o.deletes for o in part.operations
            )
        case RedisRecord():
            return part.keys
        case ElasticRecord():
            return sum(i.documents for i in part.indices)
        case None:
            return 0


def selection_of(order: BackupOrder) -> Selection:
    """What the backup is about, in the words of a manifest."""
    mongodb = order.mongodb
    return Selection(
        engines=tuple(sorted(order.engines)),
        databases=tuple(sorted(mongodb.databases or ())) if mongodb is not None else (),
        collections=tuple(sorted(mongodb.collections or ())) if mongodb is not None else (),
    )
