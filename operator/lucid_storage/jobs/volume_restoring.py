"""Volumes as an engine of a restore: which ones, into which claims, and what became of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lucid_storage.archive.manifest import EngineRecord, Manifest, StoredObject, VolumeRecord
from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.jobs.contract import CancelledError, Source
from lucid_storage.jobs.volume_extract import Kept
from lucid_storage.jobs.volume_restore import VolumeRestored, VolumeRestoreRun, blocked, restore, settle
from lucid_storage.kube.paths import is_name
from lucid_storage.models.backup import BackupEngine
from lucid_storage.models.orders import EngineOutcome, PlannedItem, PlannedVolume, RestoreOrder, VolumeTarget


@dataclass(frozen=True, slots=True)
class VolumesOfRestore:
    """The volumes of one restore."""

    order: RestoreOrder
    manifest: Manifest
    record: EngineRecord
    open_source: Callable[[Manifest, StoredObject], Source]
    report: Callable[[int, int], None]
    cancelled: threading.Event

    def chosen(self) -> list[tuple[VolumeTarget, VolumeRecord]]:
        """Those that the order names, else all of the backup. Raises RefusedError for one that is not in it."""
        held = {volume.name: volume for volume in self.record.volumes}
        odd = next((name for name in held if not is_name(name)), None)
        if odd is not None:  # it becomes the name of a claim, and of a folder
            raise RefusedError(
                f"The backup names a volume {odd[:63]!r}, which no claim can be called: somebody changed its manifest."
                " Choose another backup.",
                reason=Reason.RESTORE_BLOCKED,
            )
        targets = self.order.volumes or tuple(VolumeTarget(name=n, target=n) for n in sorted(held))
        missing = next((t.name for t in targets if t.name not in held), None)
        if missing is not None:
            raise RefusedError(
                f'The backup holds no volume "{missing}"; it holds {", ".join(sorted(held))}.',
                reason=Reason.RESTORE_BLOCKED,
            )
        return [(target, held[target.name]) for target in targets]

    def planned(self) -> tuple[PlannedVolume, ...]:
        """What the operator makes claims from."""
        return tuple(
            PlannedVolume(
                name=record.name,
                target=target.target,
                requested_bytes=max(record.requested_bytes, record.bytes),
                storage_class=record.storage_class,
                access_modes=record.access_modes,
                snapshot=record.snapshot.name if record.snapshot is not None else None,
            )
            for target, record in self.chosen()
        )

    def plan(self) -> tuple[list[PlannedItem], LucidError | None]:
        """What is written, and what blocks it. Reads only; looks into the claims that are mounted."""
        items, refusal = [], None
        for target, record in self.chosen():
            note = "into a new or empty claim"
            if not record.point_in_time:
                note += "; it was read while a pod could write, so it is not the state of one moment"
            items.append(PlannedItem(target=f"volume {target.target}", documents=record.files, note=note))
            refusal = refusal or self._refusal(target, record)
        return items, refusal

    def _refusal(self, target: VolumeTarget, record: VolumeRecord) -> LucidError | None:
        origin, owner = self.manifest.origin, self.order.owner
        here = (origin.cluster, origin.namespace) == (owner.cluster, owner.namespace)
        if record.snapshot is not None and not here:
            return RefusedError(
                f'The volume "{record.name}" was backed up as a snapshot inside the cluster and namespace that made it,'
                " and cannot be restored elsewhere; choose a backup made with method Archive.",
                reason=Reason.RESTORE_BLOCKED,
            )
        return blocked(self._run(target, record)) if target.path is not None else None

    def restore(self) -> EngineOutcome:
        """Blocks until all are complete. Raises LucidError; each volume is whole or as empty as before."""
        done: list[VolumeRestored] = [restore(self._run(target, record)) for target, record in self.chosen()]
        kept = Kept(
            sum(one.kept.owners for one in done),
            sum(one.kept.attributes for one in done),
            sum(one.kept.devices for one in done),
            sum(one.kept.bits for one in done),
            sum(one.kept.times for one in done),
        )
        said = " ".join(_proofs(done))
        return EngineOutcome(
            engine=BackupEngine.VOLUMES,
            ok=True,
            message=" ".join(part for part in (said, kept.describe()) if part),
            documents=sum(one.entries for one in done),
            size_bytes=sum(one.bytes for one in done),
        )

    def settle(self, *, whole: bool) -> None:
        """The last act, when every engine is complete; `whole` unless something of the restore is left to do."""
        written = [
            self._run(target, record)
            for target, record in self.chosen()
            if target.path is not None and record.snapshot is None
        ]
        settle(written, whole=whole)

    def _run(self, target: VolumeTarget, record: VolumeRecord) -> VolumeRestoreRun:
        if target.path is None:
            raise LucidError(f'The claim "{target.target}" is not mounted in this worker.')
        return VolumeRestoreRun(
            run=self.order.run,
            owner=self.order.owner,
            record=record,
            manifest=self.manifest,
            root=Path(target.path),
            open_source=self.open_source,
            check=self._check,
            report=self.report,
        )

    def _check(self) -> None:
        if self.cancelled.is_set():
            raise CancelledError("The restore was stopped.")


def _proofs(done: list[VolumeRestored]) -> Iterator[str]:
    """What was proved: there is nothing to compare a snapshot's contents with."""
    written = [one for one in done if not one.of_snapshot and one.before is None]
    earlier = [one.before for one in done if one.before is not None]
    unread = [one for one in done if one.unread]
    for ones, how in (
        (written, "compared after writing"),
        (
            [one for one in done if one.of_snapshot and not one.unread],
            "made from a snapshot and read through",
        ),
    ):
        if ones:
            yield f"{len(ones)} volumes, {sum(one.entries for one in ones)} files and folders, {how}."
    if unread:
        yield (
            f"{len(unread)} volumes, made from a snapshot and not read through: the user {os.getuid()} of this worker"
            " may not read all of it (spec.copy.runAsUser of the Volume)."
        )
    if earlier:
        yield (
            f"{len(earlier)} volumes were completed by an earlier run of this restore, the last at"
            f" {max(earlier):%Y-%m-%dT%H:%M:%SZ}, and left as they are."
        )
