"""What a worker's last words make of a Backup's status. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from pydantic import ValidationError

from lucid_storage.errors import Reason
from lucid_storage.kinds import figures
from lucid_storage.kinds.identity import kept
from lucid_storage.kinds.oneshot import Said, Standing
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backup import (
    BackupPhase,
    BackupStatus,
    EngineResult,
    VerificationResult,
    Verify,
)
from lucid_storage.models.base import DeletionPolicy
from lucid_storage.models.orders import BackupResult, EngineOutcome, Message

R = TypeVar("R", bound=Message)

FINISHED = frozenset(
    {
        BackupPhase.COMPLETED,
        BackupPhase.PARTIALLY_FAILED,
        BackupPhase.FAILED,
        BackupPhase.CANCELLED,
        BackupPhase.EXPIRED,
    }
)
WITH_DATA = frozenset({BackupPhase.COMPLETED, BackupPhase.PARTIALLY_FAILED, BackupPhase.FAILED})


def holds(resource: Resource, status: BackupStatus) -> bool:
    """Whether the deletion of the resource has data to remove."""
    return (
        resource.spec.get("deletionPolicy") == DeletionPolicy.DELETE
        and status.phase in WITH_DATA
        and status.manifest_sha256 is not None
    )


def in_cluster(of: BackupStatus | BackupResult) -> bool:
    """Whether snapshots are a part of its data."""
    return any(engine.in_cluster for engine in of.engines or ())


def may_have_snapshots(status: BackupStatus) -> bool:
    """Whether snapshots may be a part of its data: of one that was cancelled, status knows only that data stay."""
    return in_cluster(status) or (
        status.phase is BackupPhase.CANCELLED and status.retained_because is not None
    )


def without_snapshots(result: BackupResult) -> BackupResult:
    """Of a backup that was found again (rule 1.10), and whose snapshots are not there any more: they were its data."""
    said = (
        "The snapshots that it consists of are not in this cluster any more; make a Backup of another name."
    )
    engines = tuple(
        one.model_copy(update={"ok": False, "reason": Reason.VERIFY_FAILED, "message": said})
        if one.in_cluster
        else one
        for one in result.engines
    )
    reason = Reason.PARTIALLY_FAILED if any(one.ok for one in engines) else Reason.VERIFY_FAILED
    lost = {"ok": False, "reason": reason, "message": said, "engines": engines}
    unproved = {"verified": None, "verify_note": None, "verified_at": None, "verify_seconds": None}
    return result.model_copy(update={**lost, **unproved})


def parsed(model: type[R], text: str | None, run: str | None) -> R | None:
    """The result of this run; None for what is none."""
    try:
        result = model.model_validate_json(text or "")
    except ValidationError:
        return None
    return result if getattr(result, "run", None) == run else None


def finished(
    status: BackupStatus, phase: BackupPhase, reason: Reason, message: str, now: datetime
) -> tuple[BackupStatus, Said]:
    """The end without a result."""
    done = status.model_copy(
        update={"phase": phase, "completed_at": _second(now), "progress": None, "queued_behind": None}
    )
    return done, Said(Standing.FAILED, reason, message)


def completed(
    status: BackupStatus, result: BackupResult, *, left_out: str, encrypted: bool
) -> tuple[BackupStatus, Said]:
    """The end with a result, good or bad."""
    phase = _phase(result)
    engines = [_engine(outcome) for outcome in result.engines]
    stored = sum(e.stored_bytes for e in result.engines)
    update: dict[str, object] = {
        "phase": phase,
        "progress": "100%" if phase is BackupPhase.COMPLETED else None,
        "queued_behind": None,
        "id": result.id or status.id,
        "type": result.type or status.type,
        "timeline": result.timeline,
        "base": result.base,
        "parent": result.parent,
        "from_time": result.from_time,
        "to": result.to,
        "from_optime": result.from_optime,
        "to_optime": result.to_optime,
        "engines": engines or None,
        "skew_seconds": _skew(result.engines),
        "size_bytes": sum(e.size_bytes for e in result.engines) if engines else None,
        "stored_bytes": stored if engines else None,
        "size": figures.size(stored) if engines else None,
        "location": result.location or status.location,
        "encrypted": encrypted,
        "manifest_sha256": result.manifest_sha256,
        "server_identity": result.server_identity or status.server_identity,
        "verified": _verified_column(result),
        "verification": _verification(result),
        "completed_at": result.completed_at,
    }
    # What is not in it belongs where people look, also of a backup that is good.
    notes = (outcome.message for outcome in result.engines if outcome.ok)
    parts = (result.message or _sentence(phase, result), *notes, left_out)
    message = " ".join(part for part in parts if part)
    reason = result.reason or (Reason.COMPLETED if phase is BackupPhase.COMPLETED else Reason.INTERNAL_ERROR)
    standing = Standing.DONE if phase is BackupPhase.COMPLETED else Standing.FAILED
    done = Reason.COMPLETED if standing is Standing.DONE else reason
    return status.model_copy(update=update), Said(standing, done, message, more=_verified(result))


def expiry(status: BackupStatus, retention_days: int | None) -> BackupStatus:
    """When retention may remove a backup that was made by hand."""
    if retention_days is None or status.completed_at is None or status.phase not in WITH_DATA:
        return status
    if status.manifest_sha256 is None:
        return status
    at = status.completed_at + timedelta(days=retention_days)
    return status.model_copy(update={"expires_at": at, "expires": at.strftime("%Y-%m-%d %H:%MZ")})


def _phase(result: BackupResult) -> BackupPhase:
    if result.ok:
        return BackupPhase.COMPLETED
    if result.reason is Reason.PARTIALLY_FAILED and result.manifest_sha256 is not None:
        return BackupPhase.PARTIALLY_FAILED
    return BackupPhase.FAILED


def _engine(outcome: EngineOutcome) -> EngineResult:
    return EngineResult(
        engine=outcome.engine,
        phase=BackupPhase.COMPLETED if outcome.ok else BackupPhase.FAILED,
        reason=outcome.reason,
        message=outcome.message,
        documents=outcome.documents,
        size_bytes=outcome.size_bytes,
        stored_bytes=outcome.stored_bytes,
        taken_at=outcome.taken_at,
        server_identity=kept(outcome.server_identity) if outcome.server_identity else None,
        unencrypted=outcome.unencrypted,
        in_cluster=outcome.in_cluster,
    )


def _skew(outcomes: Sequence[EngineOutcome]) -> int | None:
    moments = [o.taken_at for o in outcomes if o.taken_at is not None]
    return int((max(moments) - min(moments)).total_seconds()) if len(moments) > 1 else None


def _note(result: BackupResult) -> Reason | None:
    """What speaks against the check. A word that is not known does too: a worker may be newer than this."""
    if result.verify_note is None:
        return None
    word = result.verify_note.partition(":")[0]
    return next((reason for reason in Reason if reason == word), Reason.VERIFY_FAILED)


def _verified_column(result: BackupResult) -> str | None:
    if result.reason is Reason.VERIFY_FAILED:
        return str(Reason.VERIFY_FAILED)
    note = _note(result)
    if note is not None:
        return f"{result.verified}, {note}" if result.verified else str(note)
    return str(result.verified) if result.verified is not None else None


def _verification(result: BackupResult) -> VerificationResult | None:
    if result.verified is None or result.verified_at is None:
        return None
    return VerificationResult(
        level=result.verified, at=_second(result.verified_at), seconds=result.verify_seconds
    )


def _verified(result: BackupResult) -> tuple[tuple[str, bool, Reason, str], ...]:
    """The condition; none for what came to nothing that could have been checked."""
    if result.ok or result.manifest_sha256 is not None or result.reason is Reason.VERIFY_FAILED:
        return (_checked(result),)
    return ()


def _checked(result: BackupResult) -> tuple[str, bool, Reason, str]:
    note = _note(result)
    if result.reason is Reason.VERIFY_FAILED:
        return "Verified", False, Reason.VERIFY_FAILED, result.message or "The check failed."
    if result.verified is not None and note is None:
        at = f" at {_second(result.verified_at):%Y-%m-%d %H:%M:%SZ}" if result.verified_at else ""
        said = f"{_HOW[result.verified]}{at}."
        return "Verified", True, Reason.VERIFIED, said
    if note is not None:
        return "Verified", False, note, result.verify_message or str(note.__doc__)
    return "Verified", False, Reason.VERIFY_FAILED, "Nothing of it was proved."


_HOW = {
    Verify.UPLOAD: "The destination confirmed size and checksum",
    Verify.CHECKSUM: "All bytes were read back and checked",
    Verify.RESTORE: "It was restored into a scratch database and compared",
}


def _sentence(phase: BackupPhase, result: BackupResult) -> str:
    if phase is not BackupPhase.COMPLETED:
        return "The worker gave no sentence; the log of its pod says more."
    engines = ", ".join(e.engine for e in result.engines) or "nothing new"
    at = f", consistent to {result.to:%Y-%m-%d %H:%M:%SZ}" if result.to else ""
    return f"The backup holds {engines}{at}."


def _second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
