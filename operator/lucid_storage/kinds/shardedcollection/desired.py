"""What a ShardedCollection declares, in the store's terms. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from lucid_storage.errors import Reason, RefusedError
from lucid_storage.models.base import DeletionPolicy, DriftPolicy
from lucid_storage.models.shardedcollection import ChangePolicy, ShardedCollectionSpec
from lucid_storage.models.shardedcollection import Zone as DeclaredZone
from lucid_storage.stores.mongodb.sharding.bounds import full_range
from lucid_storage.stores.mongodb.sharding.order import UnknownOrderError, in_order, overlapping
from lucid_storage.stores.mongodb.sharding.types import BalancerWindow, KeyRange, ShardKey
from lucid_storage.stores.mongodb.types import JsonDoc

NAMESPACE_LIMIT = 235
"""Bytes of `<database>.<collection>` that MongoDB allows once it is sharded."""
KEY_LIMIT = 1024
"""Characters of a key that status has room for."""


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone with complete bounds."""

    name: str
    shards: frozenset[str]
    ranges: tuple[KeyRange, ...]


@dataclass(frozen=True, slots=True)
class ShardedDesired:
    """A ShardedCollection with its defaults resolved. What is None is unmanaged."""

    database: str
    collection: str
    secret: str | None
    key: ShardKey
    unique: bool | None
    num_initial_chunks: int | None
    zones: tuple[Zone, ...] | None
    balancing: bool | None
    change_policy: ChangePolicy
    drift_policy: DriftPolicy
    deletion_policy: DeletionPolicy
    accepted_key: str | None
    """The key that somebody accepted although it is poor, as `shown_key` writes it."""
    window: BalancerWindow | None = None
    """The deployment's, for resources that use the operator's own credentials."""

    @property
    def target(self) -> str:
        return f"{self.database}.{self.collection}"

    @property
    def managed(self) -> list[str]:
        """Names of the optional fields that are declared."""
        declared = {"zones": self.zones, "balancing": self.balancing, "unique": self.unique}
        return sorted(name for name, value in declared.items() if value is not None)


def shown_key(key: ShardKey) -> str:
    """The KEY column, and how an annotation names a key. A long one ends with its fingerprint: two keys are never taken
    for one.
    """
    text = ", ".join(f"{field}:{order}" for field, order in key)
    if len(text) <= KEY_LIMIT:
        return text
    mark = f"... sha256:{sha256(text.encode()).hexdigest()[:16]}"
    return f"{text[: KEY_LIMIT - len(mark)]}{mark}"


def resolve(
    spec: ShardedCollectionSpec,
    database: str,
    *,
    accepted_key: str | None = None,
    window: BalancerWindow | None = None,
) -> ShardedDesired:
    """The declaration with its database filled in. Raises RefusedError for what no server would take."""
    if len(f"{database}.{spec.collection}".encode()) > NAMESPACE_LIMIT:
        raise RefusedError(
            f"The name {database}.{spec.collection} is longer than the {NAMESPACE_LIMIT} bytes that MongoDB allows"
            " for a sharded collection; choose a shorter one.",
            reason=Reason.INVALID_SPEC,
        )
    key: ShardKey = tuple((part.field, part.order) for part in spec.shard_key)
    if spec.unique and any(order == "hashed" for _, order in key):
        raise RefusedError(
            "A hashed shard key cannot be unique: remove unique, or use ranges.", reason=Reason.INVALID_SPEC
        )
    secret = spec.connection.secret_name if spec.connection else None
    return ShardedDesired(
        database=database,
        collection=spec.collection,
        secret=secret,
        key=key,
        unique=spec.unique,
        num_initial_chunks=spec.num_initial_chunks,
        zones=None if spec.zones is None else _zones(spec.zones, key),
        balancing=spec.balancing.enabled if spec.balancing else None,
        change_policy=spec.change_policy,
        drift_policy=spec.drift_policy,
        deletion_policy=spec.deletion_policy,
        accepted_key=accepted_key.strip() if accepted_key is not None else None,
        window=window if secret is None else None,
    )


def _zones(declared: Sequence[DeclaredZone], key: ShardKey) -> tuple[Zone, ...]:
    """Refuses what the server would refuse in the middle of the work, when other ranges are cleared already."""
    zones = tuple(_zone(zone, key) for zone in declared)
    placed = [(zone.name, place, bounds) for zone in zones for place, bounds in enumerate(zone.ranges)]
    try:
        for name, place, bounds in placed:
            if not in_order(bounds, key):
                raise RefusedError(
                    f"spec.zones: range {place + 1} of the zone {name} holds nothing, since its min does not come"
                    " before its max; correct them.",
                    reason=Reason.INVALID_SPEC,
                )
        found = overlapping([bounds for _, _, bounds in placed], key)
    except UnknownOrderError:
        return zones  # the server compares them
    if found is None:
        return zones
    (name, place, _), (other, there, _) = placed[found[0]], placed[found[1]]
    raise RefusedError(
        f"spec.zones: range {place + 1} of the zone {name} and range {there + 1} of the zone {other} overlap, and a"
        " value of the shard key can lie in one zone only; correct their bounds.",
        reason=Reason.INVALID_SPEC,
    )


def _zone(zone: DeclaredZone, key: ShardKey) -> Zone:
    ranges = []
    for place, declared in enumerate(zone.ranges):
        for end, bound in (("min", declared.min), ("max", declared.max)):
            _check_bound(zone.name, place, end, bound, key)
        ranges.append(full_range(KeyRange(declared.min, declared.max), key))
    return Zone(zone.name, frozenset(zone.shards), tuple(ranges))


def _check_bound(zone: str, place: int, end: str, bound: JsonDoc, key: ShardKey) -> None:
    """A bound names the first fields of the key, or is `{"$minKey": 1}` or `{"$maxKey": 1}` as a whole."""
    if set(bound) in ({"$minKey"}, {"$maxKey"}):
        return
    first = [field for field, _ in key][: len(bound)]
    if not bound or set(bound) != set(first):
        raise RefusedError(
            f"spec.zones: the {end} of range {place + 1} of the zone {zone} must name the first fields of the shard"
            f" key ({shown_key(key)}), or be {{$minKey: 1}} or {{$maxKey: 1}}.",
            reason=Reason.INVALID_SPEC,
        )
