"""Who decides how long the data of a Backup are kept. Pure.

Of one made by hand its spec does. Of one that a schedule made, that schedule does as long as it writes the same chain
into the same place; afterwards the rules that it left with the Backup (rule 1.9).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from lucid_storage.kinds.backupschedule.belonging import belongs, schedule_of
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backup import BackupPhase
from lucid_storage.models.backupschedule import Retention
from lucid_storage.models.meta import RETENTION, SCHEDULE
from lucid_storage.models.settings import Settings


@dataclass(frozen=True, slots=True)
class Keeping:
    """When the data of a Backup go by themselves."""

    days: int | None
    """After it was completed; None where nothing here lets them go."""
    ruled: bool = False
    """They stay beyond that as long as another rule of the schedule keeps them."""


BY_OTHERS = Keeping(None)


def keeping(backup: Resource, schedules: Iterable[Resource], settings: Settings) -> Keeping:
    """Who decides, and how."""
    if SCHEDULE not in backup.annotations:
        days = backup.spec.get("retentionDays")
        return Keeping(days if isinstance(days, int) else settings.backup_retention_days)
    schedule = schedule_of(backup, schedules)
    if schedule is not None and belongs(backup, schedule, settings):
        return BY_OTHERS
    return Keeping(_days(backup.annotations.get(RETENTION)), ruled=True)


def by_hand(namespace: str, chain: str, backups: Iterable[Resource]) -> tuple[str, ...]:
    """Ids of a chain's Backups that say themselves how long their data are kept, as far as their status tells. One that
    is being deleted says nothing any more; nor does one that was cancelled, or that failed and knows of no data: what
    its worker had written by then goes by its mark, or by what its manifest says.
    """
    return tuple(
        str(b.status["id"])
        for b in backups
        if b.key.plural == "backups"
        and b.key.namespace == namespace
        and b.deleted is None
        and SCHEDULE not in b.annotations
        and b.status.get("chain") == chain
        and b.status.get("id")
        and _claims_data(b.status)
    )


def _claims_data(status: Mapping[str, object]) -> bool:
    """Whether an object stands for data, as far as they may be there."""
    phase = status.get("phase")
    if phase in (BackupPhase.CANCELLED, BackupPhase.EXPIRED):
        return False
    return phase != BackupPhase.FAILED or status.get("manifestSha256") is not None


def _days(rules: str | None) -> int | None:
    """Rules without days count newer backups, of which there will be none: what they keep stays."""
    try:
        return Retention.model_validate_json(rules).days if rules else None
    except ValidationError:
        return None
