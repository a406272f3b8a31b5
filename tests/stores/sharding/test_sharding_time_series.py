"""Time series on a real cluster: what the adapter tells of them, and what it does not do."""

from datetime import UTC, datetime

import pytest
from sharding_bed import Cluster, insert

from lucid_storage.errors import NotSupportedError
from lucid_storage.stores.mongodb.adapter import MongoDeployment
from lucid_storage.stores.mongodb.sharding.types import KeyRange, ShardKey
from lucid_storage.stores.mongodb.types import CollectionOptions, IndexDefinition

pytestmark = pytest.mark.mongodb


async def test_a_time_series_shows_the_key_in_its_own_words(
    router: MongoDeployment, sharded: Cluster, sharded_database: str
) -> None:
    sharding = router.sharding
    series = {"timeField": "at", "metaField": "sensor"}
    await router.create_collection(sharded_database, "readings", CollectionOptions(time_series=series))
    key: ShardKey = (("sensor.id", 1), ("at", 1))
    await sharding.shard(sharded_database, "readings", key)
    documents = [{"at": datetime.now(UTC), "sensor": {"id": n % 5}} for n in range(50)]
    insert(sharded, sharded_database, "readings", documents)
    state = await sharding.sharded(sharded_database, "readings")
    assert state is not None
    assert (state.key, state.time_series) == (key, True)
    assert sum(found.chunks for found in await sharding.chunks(state)) == 1
    (figures,) = await sharding.figures(sharded_database, "readings", 10) or ()
    assert (figures.documents, figures.size_bytes > 0) == (None, True)
    assert (await sharding.balance(sharded_database, "readings")).compliant
    sample = await sharding.key_sample(sharded_database, "readings", (("sensor.id", 1),), 100, 10)
    assert sample is not None
    assert (sample.sampled, sample.distinct) == (50, 5)
    await sharding.set_balancing(sharded_database, "readings", enabled=False)
    state = await sharding.sharded(sharded_database, "readings")
    assert state is not None
    assert not state.balancing
    await router.create_index(
        sharded_database, "readings", "by_sensor", IndexDefinition(keys=(("sensor.id", 1),))
    )


async def test_the_key_of_a_time_series_is_not_changed(
    router: MongoDeployment, sharded_database: str
) -> None:
    sharding = router.sharding
    series = {"timeField": "at", "metaField": "sensor"}
    await router.create_collection(sharded_database, "readings", CollectionOptions(time_series=series))
    await sharding.shard(sharded_database, "readings", (("sensor", 1),))
    bounds = KeyRange({"sensor": 1}, {"sensor": 5})
    for change in (
        sharding.refine(sharded_database, "readings", (("sensor", 1), ("at", 1))),
        sharding.reshard(sharded_database, "readings", (("sensor", "hashed"),)),
        sharding.assign_range(sharded_database, "readings", bounds, "zone"),
    ):
        with pytest.raises(NotSupportedError, match="time series"):
            await change
