"""The commands behind actions and questions of a ShardedCollection."""

from __future__ import annotations

from collections.abc import Callable, Coroutine

from lucid_storage.kinds.contract import Action
from lucid_storage.kinds.shardedcollection.actions import (
    NO_DOCUMENTS,
    AddShardToZone,
    AssignRange,
    ClearRange,
    EnableSharding,
    ExamineKey,
    KeyFindings,
    RefineKey,
    RemoveShardFromZone,
    Reshard,
    SetBalancerWindow,
    SetBalancing,
    ShardCollection,
)
from lucid_storage.kinds.shardedcollection.changing import REFINING, RESHARDING
from lucid_storage.kinds.shardedcollection.desired import ShardedDesired
from lucid_storage.kinds.shardedcollection.plan import SHARDING
from lucid_storage.stores.mongodb.port import MongoPort
from lucid_storage.stores.mongodb.sharding.port import ShardingPort
from lucid_storage.stores.mongodb.types import IndexDefinition

EXAMINE_SECONDS = 30.0
"""How long each question about the documents may take, on a secondary."""
SAMPLE = 5_000
"""Documents of the sample that a key is judged by."""

LongCall = tuple[str, Callable[[], Coroutine[None, None, None]]]


def long_call(port: MongoPort, desired: ShardedDesired, action: Action) -> LongCall | None:
    """What may take longer than a look should; None for what does not."""
    database, name = desired.database, desired.collection
    match action:
        case ShardCollection():
            return SHARDING, lambda: port.sharding.shard(
                database,
                name,
                action.key,
                unique=action.unique,
                num_initial_chunks=action.num_initial_chunks,
                simple_collation=action.simple_collation,
                uuid=action.uuid,
                empty=action.empty,
            )
        case RefineKey(key=key, uuid=uuid):
            return REFINING, lambda: port.sharding.refine(database, name, key, uuid=uuid)
        case Reshard(key=key, num_initial_chunks=count, simple_collation=simple, uuid=uuid):
            return RESHARDING, lambda: port.sharding.reshard(
                database, name, key, num_initial_chunks=count, simple_collation=simple, uuid=uuid
            )
    return None


async def step(sharding: ShardingPort, desired: ShardedDesired, action: Action) -> None:
    """Do what does not take long."""
    database, name = desired.database, desired.collection
    match action:
        case EnableSharding(database=enabled):
            await sharding.enable_sharding(enabled)
        case AddShardToZone(shard=shard, zone=zone):
            await sharding.add_shard_to_zone(shard, zone)
        case RemoveShardFromZone(shard=shard, zone=zone):
            await sharding.remove_shard_from_zone(shard, zone)
        case AssignRange(zone=zone, bounds=bounds):
            await sharding.assign_range(database, name, bounds, zone)
        case ClearRange(bounds=bounds):
            await sharding.clear_range(database, name, bounds)
        case SetBalancing(enabled=enabled):
            await sharding.set_balancing(database, name, enabled=enabled)
        case SetBalancerWindow(window=window):
            await sharding.set_balancer_window(window)
        case _:
            raise TypeError(f"ShardedCollection cannot do {type(action).__name__}")


async def answer(port: MongoPort, desired: ShardedDesired, question: ExamineKey) -> KeyFindings:
    """What the documents say. Only the primaries tell that there are none."""
    database, name, sharding = desired.database, desired.collection, port.sharding
    occupancy = await sharding.occupancy(database, name)
    if occupancy.empty:
        return NO_DOCUMENTS
    gaps = await sharding.key_gaps(database, name, question.key, EXAMINE_SECONDS)
    duplicates = None
    if question.duplicates:
        # Shard keys are compared so, whatever the collection's default collation is.
        definition = IndexDefinition(keys=question.key, unique=True, collation={"locale": "simple"})
        duplicates = await port.duplicates(database, name, definition, EXAMINE_SECONDS)
    sample = await sharding.key_sample(database, name, question.key, SAMPLE, EXAMINE_SECONDS)
    return KeyFindings(gaps, sample, duplicates, documents=occupancy.documents)
