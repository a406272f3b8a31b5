"""What documents say about a key, read from real servers."""

import random
from datetime import UTC, datetime

import pytest
from bson import ObjectId
from pymongo import monitoring
from sharding_bed import Cluster, counted, insert

from lucid_storage.stores.mongodb.adapter import MongoDeployment
from lucid_storage.stores.mongodb.sharding.types import Occupancy, ShardKey
from lucid_storage.stores.mongodb.types import CollectionOptions, IndexDefinition

pytestmark = pytest.mark.mongodb

COUNTRY: ShardKey = (("country", 1),)
DRAW = random.Random(5)


async def test_whether_there_are_documents_is_told_of_every_sort_of_collection(
    router: MongoDeployment, sharded: Cluster, sharded_database: str
) -> None:
    sharding = router.sharding
    assert await sharding.occupancy(sharded_database, "nowhere") == Occupancy(empty=True, documents=0)
    await sharding.shard(sharded_database, "spread", (("user", "hashed"),), num_initial_chunks=4)
    series = {"timeField": "at", "metaField": "sensor"}
    await router.create_collection(sharded_database, "series", CollectionOptions(time_series=series))
    for name in ("plain", "spread", "series"):
        assert (await sharding.occupancy(sharded_database, name)).empty
        insert(sharded, sharded_database, name, [{"user": n, "at": datetime.now(UTC)} for n in range(9)])
    assert await sharding.occupancy(sharded_database, "plain") == Occupancy(empty=False, documents=9)
    assert await sharding.occupancy(sharded_database, "spread") == Occupancy(empty=False, documents=9)
    assert await sharding.occupancy(sharded_database, "series") == Occupancy(empty=False, documents=None)


async def test_whether_there_are_documents_is_asked_of_primaries_and_a_majority_whatever_the_uri_says(
    sharded: Cluster, sharded_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[object, object]] = []

    class Listener(monitoring.CommandListener):
        def started(self, event: monitoring.CommandStartedEvent) -> None:
            if event.command_name == "find":
                mode = event.command.get("$readPreference", {}).get("mode", "primary")
                sent.append((event.command["readConcern"]["level"], mode))

        def succeeded(self, event: object) -> None: ...

        def failed(self, event: object) -> None: ...

    listeners = monitoring._LISTENERS._replace(command_listeners=[Listener()])
    monkeypatch.setattr(monitoring, "_LISTENERS", listeners)
    uri = f"{sharded.uri}{'&' if '?' in sharded.uri else '?'}readPreference=secondaryPreferred"
    router = MongoDeployment(uri, label="cluster", app_name="lucid-test", guard=lambda: None)
    try:
        assert (await router.sharding.occupancy(sharded_database, "nowhere")).empty
    finally:
        await router.close()
    assert sent == [("local", "primary"), ("majority", "primary")]


async def test_gaps_of_a_key_are_counted(
    router: MongoDeployment, sharded: Cluster, sharded_database: str
) -> None:
    documents: list[dict[str, object]] = [{"place": {"country": "AT"}, "day": 1} for _ in range(20)]
    documents += [{"day": 1}, {"place": {"country": None}, "day": 1}, {"place": {"country": "AT"}}]
    documents += [{"place": {"country": ["AT", "DE"]}, "day": 1}, {"place": [{"country": "AT"}], "day": 1}]
    insert(sharded, sharded_database, "orders", documents)
    key: ShardKey = (("place.country", 1), ("day", 1))
    gaps = await router.sharding.key_gaps(sharded_database, "orders", key, 10)
    assert (gaps.checked, gaps.missing, gaps.arrays, gaps.complete) == (25, 3, 2, True)


async def test_an_empty_collection_has_no_gaps_and_no_sample(
    router: MongoDeployment, sharded_database: str
) -> None:
    await router.sharding.enable_sharding(sharded_database)
    gaps = await router.sharding.key_gaps(sharded_database, "orders", COUNTRY, 10)
    assert (gaps.checked, gaps.complete) == (0, True)
    await router.sharding.shard(sharded_database, "orders", COUNTRY)
    sample = await router.sharding.key_sample(sharded_database, "orders", COUNTRY, 1000, 10)
    assert sample is not None
    assert (sample.sampled, sample.distinct, sample.correlation) == (0, 0, None)


async def test_without_a_budget_there_is_no_answer(
    router: MongoDeployment, sharded: Cluster, sharded_database: str
) -> None:
    insert(sharded, sharded_database, "orders", [{"country": "AT"}])
    gaps = await router.sharding.key_gaps(sharded_database, "orders", COUNTRY, 0)
    assert (gaps.checked, gaps.complete) == (0, False)
    assert await router.sharding.key_sample(sharded_database, "orders", COUNTRY, 1000, 0) is None
    assert await router.sharding.figures(sharded_database, "orders", 0) is None


async def test_a_sample_tells_few_values_and_a_common_one(
    router: MongoDeployment, sharded: Cluster, sharded_database: str
) -> None:
    countries = ["AT"] * 80 + ["DE"] * 15 + ["PL"] * 5
    DRAW.shuffle(countries)
    insert(sharded, sharded_database, "orders", [{"country": country} for country in countries])
    sample = await router.sharding.key_sample(sharded_database, "orders", COUNTRY, 1000, 10)
    assert sample is not None
    assert (sample.sampled, sample.distinct) == (100, 3)
    assert (sample.most_frequent, sample.most_frequent_share, sample.missing) == (80, 0.8, 0)
    assert sample.correlation is not None
    assert abs(sample.correlation) < 0.5


async def test_values_are_told_apart_as_shard_keys_are_and_not_by_the_collections_collation(
    router: MongoDeployment, sharded: Cluster, sharded_database: str
) -> None:
    options = CollectionOptions(collation={"locale": "de", "strength": 1})
    await router.create_collection(sharded_database, "orders", options)
    insert(sharded, sharded_database, "orders", [{"country": one} for one in ("at", "AT", "\u00e4t", "de")])
    sample = await router.sharding.key_sample(sharded_database, "orders", COUNTRY, 1000, 10)
    assert sample is not None
    assert (sample.distinct, sample.most_frequent) == (4, 1)


async def test_duplicates_are_found_before_sharding_and_across_shards_as_shard_keys_are_compared(
    router: MongoDeployment, sharded: Cluster, sharded_database: str
) -> None:
    mails = [f"{n}@x" for n in range(50)] + ["7@x"] * 12 + ["8@x", "9@X"]
    documents = [{"_id": n, "user": n, "mail": mail} for n, mail in enumerate(mails)]
    await router.sharding.shard(sharded_database, "spread", (("user", "hashed"),), num_initial_chunks=4)
    german = CollectionOptions(collation={"locale": "de", "strength": 1})
    await router.create_collection(sharded_database, "plain", german)
    unique = IndexDefinition(keys=(("mail", 1),), unique=True, collation={"locale": "simple"})
    for name in ("plain", "spread"):
        insert(sharded, sharded_database, name, documents)
        found = await router.duplicates(sharded_database, name, unique, 10)
        assert (found.groups, found.documents, found.complete) == (2, 15, True)
        alike = {str(document["_id"]) for document in documents if document["mail"] == "7@x"}
        assert len(set(found.examples[0])) == 5
        assert set(found.examples[0]) <= alike
        assert set(found.examples[1]) == {"8", "62"}
        cut = await router.duplicates(sharded_database, name, unique, 0)
        assert (cut.groups, cut.complete) == (0, False)
    lying = counted(sharded, sharded_database, "spread", {"mail": "7@x"})
    assert len(lying) == 2, "equal keys lie on both shards, and no shard alone sees them all"


async def test_growing_keys_are_told_from_random_ones(
    router: MongoDeployment, sharded: Cluster, sharded_database: str
) -> None:
    """By the order of ObjectIds, and where ids are others, by the order in which the server stores documents."""
    drawn = DRAW.sample(range(10**6), 400)
    for name, identifiers in (("ids", [ObjectId() for _ in drawn]), ("others", [f"{n}-x" for n in drawn])):
        documents = [
            {"_id": identifier, "grows": datetime.fromtimestamp(n, UTC), "falls": -n, "drawn": DRAW.random()}
            for n, identifier in enumerate(identifiers)
        ]
        insert(sharded, sharded_database, name, documents)
        found = {}
        for field in ("grows", "falls", "drawn"):
            sample = await router.sharding.key_sample(sharded_database, name, ((field, 1),), 300, 10)
            assert sample is not None
            assert (sample.sampled, sample.distinct) == (300, 300)
            found[field] = sample.correlation
        assert found["grows"] == 1.0
        assert found["falls"] == -1.0
        assert found["drawn"] is not None
        assert abs(found["drawn"]) < 0.5


async def test_a_hash_has_no_order_and_hides_what_comes_after_it(
    router: MongoDeployment, sharded: Cluster, sharded_database: str
) -> None:
    documents = [{"day": n // 10, "user": DRAW.random()} for n in range(200)]
    insert(sharded, sharded_database, "orders", documents)

    async def correlation(*key: tuple[str, int | str]) -> float | None:
        sample = await router.sharding.key_sample(sharded_database, "orders", key, 1000, 10)
        assert sample is not None
        assert sample.leading_distinct == (20 if key[0][0] == "day" else 200)
        return sample.correlation

    assert await correlation(("user", "hashed"), ("day", 1)) is None
    grows = await correlation(("day", 1), ("user", "hashed"))
    assert grows is not None
    assert grows > 0.99


async def test_a_sharded_collection_is_sampled_over_all_shards(
    router: MongoDeployment, sharded: Cluster, sharded_database: str
) -> None:
    await router.sharding.shard(sharded_database, "orders", (("user", "hashed"),), num_initial_chunks=4)
    insert(sharded, sharded_database, "orders", [{"user": n, "day": n} for n in range(300)])
    insert(sharded, sharded_database, "orders", [{"user": 7}])
    sample = await router.sharding.key_sample(sharded_database, "orders", (("day", 1),), 5000, 10)
    assert sample is not None
    assert (sample.sampled, sample.missing) == (301, 1)
    assert sample.correlation is not None
    assert sample.correlation > 0.95
    gaps = await router.sharding.key_gaps(sharded_database, "orders", (("day", 1),), 10)
    assert (gaps.checked, gaps.missing, gaps.complete) == (301, 1, True)


async def test_long_keys_do_not_break_the_sample(
    router: MongoDeployment, sharded: Cluster, sharded_database: str
) -> None:
    documents = [{"text": f"{n:05d}" + "x" * 12_000} for n in range(2_000)]
    insert(sharded, sharded_database, "orders", documents)
    sample = await router.sharding.key_sample(sharded_database, "orders", (("text", 1),), 2_000, 20)
    assert sample is not None
    assert (sample.sampled, sample.distinct, sample.correlation) == (2_000, 2_000, 1.0)
