"""What a migration's plan can order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lucid_storage.kinds.workers.launch import WorkerRequest
from lucid_storage.kube.client import Json
from lucid_storage.kube.volumes import MovingClaim, MovingVolume


@dataclass(frozen=True, slots=True)
class MakeClaim:
    """Make a claim of the migration, or the one that takes the old name."""

    name: str
    body: Json = field(hash=False)

    def describe(self) -> str:
        return f"create the claim {self.name} for the migration"


@dataclass(frozen=True, slots=True)
class StartCopy:
    """Start a worker that copies."""

    request: WorkerRequest = field(hash=False)

    def describe(self) -> str:
        return f"start the Job {self.request.name}"


@dataclass(frozen=True, slots=True)
class StopCopy:
    """Have a worker ended and its Job removed."""

    job: str

    def describe(self) -> str:
        return f"remove the Job {self.job}"


@dataclass(frozen=True, slots=True)
class KeepVolume:
    """Reclaim policy Retain, and the journal."""

    volume: MovingVolume = field(hash=False)
    journal: str
    digest: str

    def describe(self) -> str:
        return f"keep the PersistentVolume {self.volume.name} (reclaim policy Retain) and write the journal on it"


@dataclass(frozen=True, slots=True)
class FreeVolume:
    """The reclaim policy that it had, and no journal."""

    volume: MovingVolume = field(hash=False)
    policy: str

    def describe(self) -> str:
        return f"give the PersistentVolume {self.volume.name} its reclaim policy {self.policy} back"


@dataclass(frozen=True, slots=True)
class ReserveVolume:
    """Have a volume wait for the claim of a name."""

    volume: MovingVolume = field(hash=False)
    namespace: str
    claim: str

    def describe(self) -> str:
        return f"reserve the PersistentVolume {self.volume.name} for the claim {self.claim}"


@dataclass(frozen=True, slots=True)
class HoldName:
    """Keep the claim's name taken while it is being deleted."""

    claim: MovingClaim = field(hash=False)
    run: str

    def describe(self) -> str:
        return f"hold the name of the claim {self.claim.name}"


@dataclass(frozen=True, slots=True)
class FreeName:
    """Let the old claim go."""

    claim: MovingClaim = field(hash=False)

    def describe(self) -> str:
        return f"let the old claim {self.claim.name} go"


@dataclass(frozen=True, slots=True)
class RemoveClaim:
    """Delete this very claim; its volume is kept, or holds nothing that counts."""

    claim: MovingClaim = field(hash=False)

    def describe(self) -> str:
        return f"delete the claim {self.claim.name}"


@dataclass(frozen=True, slots=True)
class DescribeClaim:
    """Set labels and annotations of a claim; an annotation that is None is removed."""

    claim: MovingClaim = field(hash=False)
    labels: Mapping[str, str] = field(hash=False)
    annotations: Mapping[str, str | None] = field(hash=False)

    def describe(self) -> str:
        return f"set labels and annotations of the claim {self.claim.name}"
