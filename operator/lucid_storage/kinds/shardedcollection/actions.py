"""What can be done about a sharded collection, and what can be asked."""

from __future__ import annotations

from dataclasses import dataclass

from lucid_storage.kinds.shardedcollection.desired import shown_key
from lucid_storage.stores.mongodb.sharding.types import (
    BalancerWindow,
    KeyGaps,
    KeyRange,
    KeySample,
    ShardKey,
)
from lucid_storage.stores.mongodb.types import DuplicateReport


@dataclass(frozen=True, slots=True)
class EnableSharding:
    """Make the database known to the cluster."""

    database: str

    def describe(self) -> str:
        return f"enable sharding of the database {self.database}"


@dataclass(frozen=True, slots=True)
class ShardCollection:
    """Shard it. Cannot be undone."""

    target: str
    key: ShardKey
    unique: bool = False
    num_initial_chunks: int | None = None
    simple_collation: bool = False
    """The collection's default collation is not the simple one, which shard keys have."""
    uuid: str | None = None
    """The collection that was examined; None where there is none yet, or the server does not compare."""
    empty: bool = False
    """It was judged as one without documents, and must be that still."""

    def describe(self) -> str:
        return f"shard {self.target} by {shown_key(self.key)}"


@dataclass(frozen=True, slots=True)
class RefineKey:
    """Add fields at the end of the shard key."""

    target: str
    key: ShardKey
    uuid: str | None = None
    """The collection that was examined."""

    def describe(self) -> str:
        return f"refine the shard key of {self.target} to {shown_key(self.key)}"


@dataclass(frozen=True, slots=True)
class Reshard:
    """Write the collection anew by another shard key."""

    target: str
    key: ShardKey
    num_initial_chunks: int | None = None
    simple_collation: bool = False
    """As for sharding."""
    uuid: str | None = None
    """The collection that was examined."""

    def describe(self) -> str:
        return f"reshard {self.target} by {shown_key(self.key)}"


@dataclass(frozen=True, slots=True)
class AddShardToZone:
    """Let a zone's documents lie on a shard."""

    shard: str
    zone: str

    def describe(self) -> str:
        return f"add the shard {self.shard} to the zone {self.zone}"


@dataclass(frozen=True, slots=True)
class RemoveShardFromZone:
    """Let a zone's documents lie on a shard no more."""

    shard: str
    zone: str

    def describe(self) -> str:
        return f"remove the shard {self.shard} from the zone {self.zone}"


@dataclass(frozen=True, slots=True)
class AssignRange:
    """Put a range of the shard key into a zone."""

    target: str
    zone: str
    bounds: KeyRange

    def describe(self) -> str:
        return f"put a range of {self.target} into the zone {self.zone}"


@dataclass(frozen=True, slots=True)
class ClearRange:
    """Take a range of the shard key out of its zone."""

    target: str
    zone: str
    bounds: KeyRange

    def describe(self) -> str:
        return f"take a range of {self.target} out of the zone {self.zone}"


@dataclass(frozen=True, slots=True)
class SetBalancing:
    """Say whether the balancer may move this collection's chunks."""

    target: str
    enabled: bool

    def describe(self) -> str:
        return f"turn balancing of {self.target} {'on' if self.enabled else 'off'}"


@dataclass(frozen=True, slots=True)
class SetBalancerWindow:
    """Set the deployment's balancer window."""

    window: BalancerWindow

    def describe(self) -> str:
        return f"set the balancer's window to {self.window.start}-{self.window.stop}"


@dataclass(frozen=True, slots=True)
class ExamineKey:
    """What do the documents say of this shard key? Answered with `KeyFindings`."""

    key: ShardKey
    duplicates: bool
    """Look for documents that share a key, too."""


@dataclass(frozen=True, slots=True)
class KeyFindings:
    """What the documents say of a shard key. What could not be read in time is None."""

    gaps: KeyGaps
    sample: KeySample | None = None
    duplicates: DuplicateReport | None = None
    documents: int | None = None
    """Documents that the primaries count; None where they do not."""
    empty: bool = False
    """The primaries themselves say that there are none; that nothing was read is no proof of it."""

    @property
    def about(self) -> int:
        """How many documents there are, as far as anybody said."""
        sampled = self.sample.sampled if self.sample is not None else 0
        return 0 if self.empty else max(1, self.documents or 0, self.gaps.checked, sampled)


NO_DOCUMENTS = KeyFindings(KeyGaps(checked=0, missing=0, arrays=0, complete=True), documents=0, empty=True)
"""What is found where the primaries have none."""
