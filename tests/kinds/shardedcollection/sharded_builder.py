"""Builds what a ShardedCollection's plan is made from; every test says only what matters to it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from lucid_storage.kinds.contract import Plan, Scope
from lucid_storage.kinds.shardedcollection.actions import NO_DOCUMENTS, ExamineKey, KeyFindings
from lucid_storage.kinds.shardedcollection.desired import ShardedDesired, resolve
from lucid_storage.kinds.shardedcollection.observed import ShardedObserved
from lucid_storage.kinds.shardedcollection.plan import plan
from lucid_storage.kinds.shardedcollection.spread import Spread
from lucid_storage.models.shardedcollection import ShardedCollectionSpec, ShardedCollectionStatus
from lucid_storage.stores.mongodb.sharding.types import (
    Balance,
    BalancerState,
    BalancerWindow,
    KeyGaps,
    KeySample,
    ShardChunks,
    ShardCluster,
    ShardedState,
    ShardFigures,
    ShardInfo,
    ShardKey,
)
from lucid_storage.stores.mongodb.types import (
    CollectionOptions,
    CollectionState,
    IndexDefinition,
    IndexState,
    ServerInfo,
    Topology,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
UUID = "a" * 32
REGION: ShardKey = (("region", 1),)
SESSION: ShardKey = (("session_id", "hashed"),)


def shard_key(key: ShardKey) -> list[dict[str, Any]]:
    return [{"field": field, "order": order} for field, order in key]


def desired(
    key: ShardKey = REGION,
    *,
    accepted: str | None = None,
    window: BalancerWindow | None = None,
    **spec: Any,
) -> ShardedDesired:
    whole = {"collection": "orders", "shardKey": shard_key(key), **spec}
    return resolve(ShardedCollectionSpec.model_validate(whole), "shop", accepted_key=accepted, window=window)


def scope(*, settled: bool = False, now: datetime = NOW) -> Scope:
    return Scope(now=now, settled=settled)


def server(major: int = 6, minor: int = 0, topology: Topology = Topology.SHARDED) -> ServerInfo:
    return ServerInfo("cluster-1", (major, minor, 0), topology)


def cluster(**zones: Sequence[str]) -> ShardCluster:
    """Shards s0 and s1; `europe=["s0"]` puts one into a zone."""
    shards = tuple(
        ShardInfo(name, tuple(zone for zone, members in zones.items() if name in members))
        for name in ("s0", "s1")
    )
    return ShardCluster("cluster-1", (6, 0, 5), shards)


def collection(options: CollectionOptions | None = None, kind: str = "collection") -> CollectionState:
    return CollectionState("shop", "orders", kind, UUID, options or CollectionOptions())


def index(*keys: tuple[str, int | str], name: str = "", **more: Any) -> IndexState:
    shown = name or "_".join(f"{field}_{order}" for field, order in keys)
    building = more.pop("building", False)
    return IndexState(shown, IndexDefinition(keys=keys, **more), building=building)


ID_INDEX = index(("_id", 1), name="_id_")


def state(key: ShardKey = REGION, **more: Any) -> ShardedState:
    return ShardedState("shop", "orders", UUID, key, unique=False, balancing=True, **more)


def balancer(**more: Any) -> BalancerState:
    return BalancerState(**{"enabled": True, "running": False, "rounds": 3, **more})


def spread(
    s0: int = 2, s1: int = 2, *, compliant: bool = True, figures: bool = True, jumbo: int = 0
) -> Spread:
    """Chunks on two shards, with 100 documents of 50 bytes in each."""
    found = (("s0", s0), ("s1", s1))
    chunks = tuple(ShardChunks(name, count, jumbo if name == "s0" else 0) for name, count in found if count)
    sizes = tuple(ShardFigures(name, count * 100, count * 5000) for name, count in found)
    violation = None if compliant else "chunksImbalance"
    return Spread(chunks, Balance(compliant, violation), balancer(), sizes if figures else None)


def unsharded(**more: Any) -> ShardedObserved:
    """A collection that is there, with an index that carries the key."""
    known = ShardedObserved(
        server(), cluster(), collection(), indexes=(ID_INDEX, index(("region", 1))), balancer=balancer()
    )
    return replace(known, **more)


def absent(**more: Any) -> ShardedObserved:
    return replace(unsharded(collection=None, indexes=None), **more)


def sharded(key: ShardKey = REGION, **more: Any) -> ShardedObserved:
    known = ShardedObserved(
        server(), cluster(), collection(), state(key), balancer=balancer(), spread=spread()
    )
    return replace(known, **more)


def status(**known: Any) -> ShardedCollectionStatus:
    return ShardedCollectionStatus(**{"observed_generation": 1, **known})


def settled(**known: Any) -> ShardedCollectionStatus:
    """Status of a collection that was sharded by `region` and told before."""
    return status(
        **{"key": "region:1", "uuid": UUID, "server_identity": "cluster-1", "target": "shop.orders", **known}
    )


def gaps(checked: int = 10_000, missing: int = 0, arrays: int = 0, *, complete: bool = True) -> KeyGaps:
    return KeyGaps(checked, missing, arrays, complete)


def sample(**more: Any) -> KeySample:
    """One that nobody would complain about."""
    good: dict[str, Any] = {
        "sampled": 5_000,
        "distinct": 4_900,
        "most_frequent": 3,
        "missing": 0,
        "leading_distinct": 4_900,
        "correlation": 0.02,
    }
    return KeySample(**{**good, **more})


EMPTY = NO_DOCUMENTS
GOOD = KeyFindings(gaps(), sample(), documents=10_000)


def planned(
    wanted: ShardedDesired,
    seen: ShardedObserved,
    known: ShardedCollectionStatus | None = None,
    *,
    found: KeyFindings = GOOD,
    is_settled: bool = False,
    now: datetime = NOW,
) -> Plan[ShardedCollectionStatus]:
    """The plan once its questions are answered."""
    known = known if known is not None else status()
    made = plan(wanted, seen, known, scope(settled=is_settled, now=now))
    if made.questions:
        assert all(isinstance(question, ExamineKey) for question in made.questions)
        answered = replace(seen, answers=dict.fromkeys(made.questions, found))
        made = plan(wanted, answered, made.status, scope(settled=is_settled, now=now))
    assert not made.questions, "asked again what was answered"
    return made
