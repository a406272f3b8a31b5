"""What a Volume's plan can order."""

from __future__ import annotations

from dataclasses import dataclass, field

from lucid_storage.kube.claims import Claim
from lucid_storage.kube.client import Json
from lucid_storage.models.quantity import to_text


@dataclass(frozen=True, slots=True)
class CreateClaim:
    """Make the claim."""

    name: str
    body: Json = field(hash=False)

    def describe(self) -> str:
        size = self.body["spec"]["resources"]["requests"]["storage"]
        return f"create the claim {self.name} of {size} in the class {self.body['spec']['storageClassName']}"


@dataclass(frozen=True, slots=True)
class ExpandClaim:
    """Ask for a larger size."""

    claim: Claim = field(hash=False)
    size: int
    grown: bool = False
    """By autoExpand."""

    def describe(self) -> str:
        return (
            f"expand the claim {self.claim.name} from {to_text(self.claim.requested)} to {to_text(self.size)}"
        )


@dataclass(frozen=True, slots=True)
class DeleteClaim:
    """Delete this very claim, and with it what its class deletes."""

    claim: Claim = field(hash=False)
    unbound: bool = False
    """Only as it was seen: without a volume, and so without data."""

    def describe(self) -> str:
        return f"delete the claim {self.claim.name}"
