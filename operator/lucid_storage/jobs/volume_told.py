"""What people are told of volumes in a backup."""

from __future__ import annotations

from lucid_storage.archive.manifest import VolumeRecord


def sentence(records: tuple[VolumeRecord, ...]) -> str | None:
    """What a person should know of how the volumes were taken; None when there is nothing."""
    said = []
    moving = [record for record in records if not record.point_in_time]
    if moving:
        changed = sum(record.changed for record in moving)
        said.append(
            f"{_names(moving)} {'was' if len(moving) == 1 else 'were'} read while a pod could write ({changed} files"
            " changed meanwhile), so it is not the state of one moment: stop the pods, or use method Snapshot."
        )
    snapshots = [record for record in records if record.snapshot is not None]
    if snapshots:
        said.append(f"{_names(snapshots)}: a snapshot inside this cluster only, which is lost with it.")
    sockets = sum(record.sockets for record in records)
    if sockets:
        said.append(f"{sockets} sockets were left out.")
    leftovers = sum(record.leftovers for record in records)
    if leftovers:
        said.append(
            f"{leftovers} entries that a restore which did not end left at the top (.lucid-...) were left out: run that"
            " restore again, or remove them."
        )
    return " ".join(said) or None


def _names(records: list[VolumeRecord]) -> str:
    return ", ".join(record.name for record in records[:3]) + (" and others" if len(records) > 3 else "")
