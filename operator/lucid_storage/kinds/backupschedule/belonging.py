"""Which Backups a schedule decides about, and which schedules are in each other's way. Pure.

A Backup belongs to its schedule as long as that writes the same chain into the same place. In another place nobody
finds its data, and would take them for gone.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.kinds.backupschedule.desired import ScheduleDesired, place_of, resolve
from lucid_storage.kinds.workers.place import Place, resolve_place
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backup import BackupEngine, BackupSpec
from lucid_storage.models.meta import SCHEDULE
from lucid_storage.models.settings import Settings


def schedule_of(backup: Resource, schedules: Iterable[Resource]) -> Resource | None:
    """The schedule that made a Backup, while it is there."""
    name = backup.annotations.get(SCHEDULE)
    for schedule in schedules:
        if (schedule.key.namespace, schedule.key.name) == (backup.key.namespace, name):
            return schedule if schedule.deleted is None else None
    return None


def belongs(backup: Resource, schedule: Resource, settings: Settings) -> bool:
    """Whether the schedule that made a Backup still decides about it. One that cannot be read now does."""
    try:
        desired = resolve(schedule, settings)
        place = place_of(desired, settings)
    except LucidError:
        return True
    return lies_in(backup, desired, place, settings)


def lies_in(backup: Resource, desired: ScheduleDesired, place: Place, settings: Settings) -> bool:
    """Whether the data of a Backup lie where the schedule's lie now, as spec and status tell."""
    namespace, status = backup.key.namespace, backup.status
    if (status.get("chain") or desired.chain) != desired.chain:
        return False
    try:
        spec = BackupSpec.model_validate(backup.spec)
        connection = spec.connection.secret_name if spec.connection else None
        its = resolve_place(spec.storage, settings, namespace, connection)
    except (ValidationError, LucidError):
        return False
    if (its.destination, its.claim) != (place.destination, place.claim):
        return False
    written = status.get("location")
    return not isinstance(written, str) or written_in(written, namespace, desired.chain, place)


def written_in(written: str, namespace: str, chain: str, place: Place) -> bool:
    """By what the worker wrote down, which a changed setting does not change:
    `.../{bucket}/{root}/{cluster}/{namespace}/{chain}/backups/{id}`.
    """
    above, _, _ = written.rpartition("/backups/")
    if not above:
        return True  # not begun: its place as people know it
    stem = "/".join(part for part in (place.destination.bucket, place.destination.root) if part)
    folder = above.removesuffix(f"/{namespace}/{chain}")
    return folder != above and (not stem or folder.rpartition("/")[0].endswith(f"/{stem}"))


def check_chain(desired: ScheduleDesired, schedules: Iterable[Resource], settings: Settings) -> None:
    """Several schedules may write one chain, of one selection: of two, each would end the other's timeline.

    The oldest has it. Raises RefusedError(ChainMismatch).
    """
    mine = desired.resource
    for other in sorted(schedules, key=lambda s: s.seniority):
        if other.seniority >= mine.seniority:
            return
        if other.key.namespace != mine.key.namespace or other.deleted is not None:
            continue
        try:
            theirs = resolve(other, settings)
            apart = place_of(theirs, settings) != place_of(desired, settings)
        except LucidError:
            continue  # it writes nothing
        if theirs.chain != desired.chain or apart or _followed(theirs) == _followed(desired):
            continue
        raise RefusedError(
            f"The chain {desired.chain} is the one of the schedule {other.key.name}, which backs up another selection"
            " or with other credentials: each would end the other's timeline. Give this schedule a chain of its own"
            " (spec.template.chain).",
            reason=Reason.CHAIN_MISMATCH,
        )


def _followed(desired: ScheduleDesired) -> tuple[object, ...]:
    """What a timeline is about, as far as the spec tells."""
    template = desired.spec.template
    if template.engines is not None and BackupEngine.MONGODB not in template.engines:
        return ("without MongoDB",)
    chosen = template.mongodb
    databases = frozenset(chosen.databases or ()) if chosen is not None else frozenset[str]()
    collections = frozenset(chosen.collections or ()) if chosen is not None else frozenset[str]()
    return (desired.connection, databases, collections)
