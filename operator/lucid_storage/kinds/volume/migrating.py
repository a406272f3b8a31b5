"""What the kind asks of a migration, which is a state machine of its own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from lucid_storage.kinds.contract import Action
from lucid_storage.kinds.oneshot import Step
from lucid_storage.kinds.volume.desired import VolumeDesired
from lucid_storage.kinds.volume.observed import VolumeObserved
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.volume import VolumeStatus
from lucid_storage.models.volume_migration import MigrationStep


@dataclass(frozen=True, slots=True)
class Need:
    """Why the claim must be replaced by another one."""

    why: str
    """Half a sentence: `the class changes from a to b`."""
    class_name: str
    """Of the new claim."""
    size: int
    """Of the new claim, in bytes."""
    access_modes: tuple[str, ...]


def migration_under_way(status: VolumeStatus) -> bool:
    """Whether a migration was begun and has something left to do."""
    journal = status.migration
    if journal is None or journal.step is MigrationStep.COMPLETED:
        return False
    return journal.step is not MigrationStep.FAILED or not journal.cleaned


class Migrations(Protocol):
    """`observe` and `apply` raise LucidError and KubeApiError."""

    def concerns(
        self, resource: Resource, seen: VolumeObserved, status: VolumeStatus, need: Need | None
    ) -> bool:
        """Whether a migration is needed, under way, or has something left to do (an old volume to release)."""

    async def observe(
        self,
        resource: Resource,
        desired: VolumeDesired | None,
        seen: VolumeObserved,
        status: VolumeStatus,
        need: Need | None,
        now: datetime,
    ) -> object:
        """What the migration needs to know. `desired` is None when the spec cannot be used any more."""

    def plan(
        self,
        resource: Resource,
        desired: VolumeDesired | None,
        seen: VolumeObserved,
        answer: object,
        status: VolumeStatus,
        need: Need | None,
        now: datetime,
    ) -> Step[VolumeStatus] | None:
        """One step; None when it has nothing to do now, and the Volume is as any other. Pure."""

    async def apply(self, resource: Resource, status: VolumeStatus, action: Action) -> None:
        """Do one step of a migration; safe to repeat."""

    def forget(self, key: Key) -> None:
        """The resource is gone."""
