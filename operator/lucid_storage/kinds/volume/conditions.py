"""The conditions of a Volume beside Ready, Reconciling and Stalled. Pure."""

from __future__ import annotations

from lucid_storage.errors import Reason
from lucid_storage.kinds.volume import checking, unkept, unwatched, usage
from lucid_storage.kinds.volume.desired import VolumeDesired
from lucid_storage.models.meta import RELEASE_OLD_VOLUME
from lucid_storage.models.volume import VolumeStatus


def conditions(
    desired: VolumeDesired, status: VolumeStatus, *, paused: bool
) -> tuple[tuple[str, bool, Reason, str], ...]:
    """The kind's own conditions, from what status shows."""
    return (
        *_paused(status, paused=paused),
        *_expandable(desired, status),
        *usage.rows(desired, status),
        *unwatched.rows(status),
        *checking.rows(status),
        *unkept.rows(status.migration),
        *_old_volume(status),
    )


def _paused(status: VolumeStatus, *, paused: bool) -> list[tuple[str, bool, Reason, str]]:
    known = any(c.type == "Paused" for c in status.conditions or ())
    if not paused and not known:
        return []
    said = "The annotation stops all writes; remove it to go on." if paused else ""
    return [("Paused", paused, Reason.PAUSED if paused else Reason.IN_SYNC, said)]


def _old_volume(status: VolumeStatus) -> list[tuple[str, bool, Reason, str]]:
    """Absent when there is none: who never migrated, or released it, need not know of it."""
    kept = status.kept_volume
    if kept is None:
        return []
    said = (
        f"The PersistentVolume {kept}, from which the data were moved, is kept as it was. When you are sure of the new"
        f" volume, release it with the annotation {RELEASE_OLD_VOLUME}: {kept}"
    )
    return [("OldVolumeKept", True, Reason.OLD_VOLUME_KEPT, said)]


def _expandable(desired: VolumeDesired, status: VolumeStatus) -> list[tuple[str, bool, Reason, str]]:
    if status.expandable is None:
        return []
    if status.expandable:
        return [("Expandable", True, Reason.EXPANDABLE, "")]
    name = status.storage_class_name or "none"
    way = (
        "A larger size is a migration, which runs while no pod uses the claim."
        if desired.migrate
        else "For a larger size set resizeStrategy: Migrate, which copies the data to a new claim."
    )
    said = f"The storage class {name} cannot expand volumes in place (it lacks allowVolumeExpansion). {way}"
    return [("Expandable", False, Reason.NOT_EXPANDABLE, said)]
