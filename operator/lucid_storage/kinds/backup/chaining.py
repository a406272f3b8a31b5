"""Whether a Backup by hand fits the chain that it names, and whether its data lie where it points now, as far as the
objects tell (rule 1.1). Pure.

Server and selection are compared by the worker, from the manifests; in another destination it would find none, and take
the chain for a new one.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.kinds.backup.desired import MANUAL_CHAIN, BackupDesired
from lucid_storage.kinds.backupschedule.belonging import written_in
from lucid_storage.kinds.workers.place import Place, resolve_place
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backup import BackupEngine, BackupPhase, BackupSpec, BackupStatus
from lucid_storage.models.meta import SCHEDULE
from lucid_storage.models.settings import Settings

GOOD = frozenset({BackupPhase.COMPLETED, BackupPhase.PARTIALLY_FAILED})


def check_destination(desired: BackupDesired, others: Iterable[Resource], settings: Settings) -> None:
    """Raises RefusedError(ChainMismatch). On a schedule the chain begins anew instead, with a full.

    What a chain promises is about MongoDB; backups of other engines are whole, wherever they lie.
    """
    if desired.schedule is not None or BackupEngine.MONGODB not in desired.engines:
        return
    mine = desired.resource
    for other in sorted(others, key=lambda o: o.seniority):
        if other.key == mine.key or other.key[:2] != mine.key[:2] or other.status.get("phase") not in GOOD:
            continue
        if _chain(other) != desired.chain:
            continue
        place = _place(other, settings)
        if place is None or (place.destination, place.claim) == (
            desired.place.destination,
            desired.place.claim,
        ):
            continue
        raise RefusedError(
            f"The chain {desired.chain} lies in {place.location} (see the Backup {other.key.name}), and this backup"
            " asks for another place. Give this backup a chain of its own (spec.chain).",
            reason=Reason.CHAIN_MISMATCH,
        )


def check_place(desired: BackupDesired, status: BackupStatus) -> None:
    """Where a setting moved the place, nobody finds the data, and would take them for gone. Raises
    RefusedError(TargetChanged).
    """
    written, place = status.location, desired.place
    if written is None or written == place.location:
        return
    # Before its end status has the place as people know it, and then what its worker wrote down.
    begun_only = status.manifest_sha256 is None
    chain = status.chain or desired.chain
    if not begun_only and written_in(written, desired.resource.key.namespace, chain, place):
        return
    raise RefusedError(
        f"Its data lie in {written}, and the place that is configured now is {place.location}: configure the old one"
        " again. Nothing was removed.",
        reason=Reason.TARGET_CHANGED,
    )


def _chain(other: Resource) -> str:
    return str(other.status.get("chain") or other.annotations.get(SCHEDULE) or MANUAL_CHAIN)


def _place(other: Resource, settings: Settings) -> Place | None:
    """None where it cannot be told any more."""
    try:
        spec = BackupSpec.model_validate(other.spec)
        connection = spec.connection.secret_name if spec.connection else None
        return resolve_place(spec.storage, settings, other.key.namespace, connection)
    except (ValidationError, LucidError):
        return None
