"""Whether a Backup by hand fits the chain that it names, as far as the objects tell (rule 1.1). Pure.

Server and selection are compared by the worker, from the manifests; in another destination it would find none, and take
the chain for a new one.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.kinds.backup.desired import MANUAL_CHAIN, BackupDesired
from lucid_storage.kinds.workers.place import Place, resolve_place
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backup import BackupEngine, BackupPhase, BackupSpec
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
