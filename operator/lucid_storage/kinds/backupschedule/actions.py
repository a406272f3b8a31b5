"""What a BackupSchedule's plan can order."""

from __future__ import annotations

from dataclasses import dataclass, field

from lucid_storage.kinds.workers.launch import WorkerRequest
from lucid_storage.kube.client import Json
from lucid_storage.kube.resources import Key


@dataclass(frozen=True, slots=True)
class CreateBackup:
    """Make the Backup of a slot, once: its name comes from the slot."""

    name: str
    body: Json = field(hash=False)

    def describe(self) -> str:
        return f"create the Backup {self.name} ({self.body['spec']['type']})"


@dataclass(frozen=True, slots=True)
class DeleteBackup:
    """Delete the object of a backup whose data retention removed, or that failed long ago."""

    key: Key
    uid: str
    why: str
    snapshots_of: str | None = None
    """Id of the backup whose snapshots go first: without the object nobody would look for them."""

    def describe(self) -> str:
        return f"delete the Backup {self.key.name}: {self.why}"


@dataclass(frozen=True, slots=True)
class DropSnapshots:
    """Remove the snapshots of a backup whose data retention removed, and whose object was deleted before."""

    backup_id: str

    def describe(self) -> str:
        return f"remove the snapshots of the backup {self.backup_id}"


@dataclass(frozen=True, slots=True)
class ExplainBackup:
    """Say on a Backup when it expires and why it stays."""

    key: Key
    uid: str
    status: Json = field(hash=False)
    """A merge patch of its status."""

    def describe(self) -> str:
        return f"explain the retention of the Backup {self.key.name}"


@dataclass(frozen=True, slots=True)
class KeepSlicing:
    """Have the slicing worker run as asked for."""

    request: WorkerRequest

    def describe(self) -> str:
        return f"keep the slicing worker {self.request.name} running"


@dataclass(frozen=True, slots=True)
class EndSlicing:
    """End the slicing worker."""

    name: str
    namespace: str

    def describe(self) -> str:
        return f"end the slicing worker {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class StartPrune:
    """Make the Job that applies retention, once."""

    request: WorkerRequest

    def describe(self) -> str:
        return f"start the prune worker {self.request.name}"


@dataclass(frozen=True, slots=True)
class RemovePrune:
    """Remove the Job of a prune worker that is over."""

    job: str

    def describe(self) -> str:
        return f"remove the Job {self.job}, which is done"
