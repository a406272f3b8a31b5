"""What a change would do to documents, counted on a real server; and duplicates without their values."""

import asyncio
import datetime
import time
import uuid
from dataclasses import replace
from typing import Any

import bson
import pytest
from mongo_bed import Connect, index
from pymongo import MongoClient, WriteConcern

from lucid_storage.errors import Reason, ServerRefusedError
from lucid_storage.stores.mongodb.adapter import MongoDeployment
from lucid_storage.stores.mongodb.counting import (
    LARGEST_BATCH,
    SMALLEST_BATCH,
    next_size,
    violations_pipeline,
)
from lucid_storage.stores.mongodb.duplicates import rendered_id
from lucid_storage.stores.mongodb.types import DuplicateReport, IndexDefinition, Violations
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb
DAY = datetime.timedelta(days=1)


def fill(mongodb: MongoDB, database: str, documents: Any, name: str = "c") -> None:
    with mongodb.client(uuidRepresentation="standard") as client:
        client[database][name].insert_many(documents, ordered=False)


async def test_violations_are_counted_over_ids_of_all_types(
    mongodb: MongoDB, deployment: MongoDeployment, database: str
) -> None:
    mixed: list[Any] = [{"_id": number, "a": number % 10} for number in range(2_500)]
    mixed += [{"_id": f"text {number}", "a": "x"} for number in range(700)]
    mixed += [{"_id": {"part": number}} for number in range(600)]
    mixed += [{"_id": uuid.uuid4(), "a": 5} for _ in range(500)]
    mixed += [{"_id": bson.MinKey(), "a": 1}, {"_id": bson.MaxKey(), "a": 1}, {"_id": None, "a": 1}]
    fill(mongodb, database, mixed)
    validator: Any = {"$jsonSchema": {"required": ["a"], "properties": {"a": {"bsonType": ["int", "long"]}}}}
    counted = await deployment.count_violations(database, "c", validator, 30)
    assert counted == Violations(checked=4_303, violating=1_300, complete=True)


@pytest.mark.parametrize(
    ("validator", "violating"),
    [({}, 0), ({"a": {"$gte": {"$numberLong": "40"}}}, 40), ({"$expr": {"$lt": ["$a", "$b"]}}, 60)],
)
async def test_violations_are_those_that_the_server_would_refuse(
    mongodb: MongoDB, deployment: MongoDeployment, database: str, validator: Any, violating: int
) -> None:
    fill(mongodb, database, [{"a": number, "b": 40} for number in range(100)])
    counted = await deployment.count_violations(database, "c", validator, 30)
    assert (counted.violating, counted.complete) == (violating, True)


async def test_violations_of_an_absent_collection_are_none(
    deployment: MongoDeployment, database: str
) -> None:
    assert await deployment.count_violations(database, "absent", {"a": 1}, 5) == Violations(
        0, 0, complete=True
    )


async def test_counting_stops_with_its_budget(
    mongodb: MongoDB, deployment: MongoDeployment, database: str
) -> None:
    fill(mongodb, database, ({"a": number, "text": "x" * 100} for number in range(60_000)))
    slow: Any = {"$expr": {"$lt": [{"$size": {"$range": [0, {"$add": ["$a", 3_000]}]}}, 5]}}
    counted = await deployment.count_violations(database, "c", slow, 1.0)
    assert not counted.complete
    assert counted.violating == counted.checked < 60_000
    assert await deployment.count_violations(database, "c", slow, 0) == Violations(0, 0, complete=False)


async def test_a_batch_reads_only_its_own_documents(mongodb: MongoDB, database: str) -> None:
    fill(mongodb, database, ({"_id": number} for number in range(5_000)))
    pipeline = violations_pipeline({"a": 1}, {"last": 4_000}, 100)
    with mongodb.client() as client:
        command = {"aggregate": "c", "pipeline": pipeline, "cursor": {}}
        explained = client[database].command("explain", command, verbosity="executionStats")
    assert explained["stages"][0]["$cursor"]["executionStats"]["totalKeysExamined"] <= 101


async def test_a_validator_that_the_server_does_not_know_is_said_in_its_words(
    mongodb: MongoDB, deployment: MongoDeployment, database: str
) -> None:
    fill(mongodb, database, [{"a": "secret"}])
    with pytest.raises(ServerRefusedError, match="nonsense"):
        await deployment.count_violations(database, "c", {"$jsonSchema": {"nonsense": 1}}, 5)
    with pytest.raises(ServerRefusedError) as refused:
        await deployment.count_violations(database, "c", {"a": {"$oid": "bad"}}, 5)
    assert refused.value.reason is Reason.INVALID_SPEC
    with pytest.raises(ServerRefusedError) as refused:
        await deployment.count_violations(database, "c", {"$expr": {"$gt": [{"$toInt": "$a"}, 1]}}, 5)
    assert "secret" not in refused.value.message


def test_batches_grow_and_shrink_with_their_time_within_bounds() -> None:
    assert next_size(1_000, 0.1) == 4_000
    assert next_size(1_000, 2.0) == 500
    assert next_size(SMALLEST_BATCH, 60) == SMALLEST_BATCH
    assert next_size(LARGEST_BATCH, 0) == LARGEST_BATCH


async def knows_a_secondary(deployment: MongoDeployment) -> None:
    """A client that has met only the primary yet would read there."""
    end = time.monotonic() + 20
    while not await deployment._connection.client.secondaries:
        assert time.monotonic() < end, "no secondary was found"
        await deployment.info()
        await asyncio.sleep(0.05)


async def test_counting_reads_from_a_secondary(mongodb_rs3: MongoDB, connect: Connect) -> None:
    database = f"test_{uuid.uuid4().hex[:12]}"
    with mongodb_rs3.client() as client:
        try:
            write = client[database].get_collection("c", write_concern=WriteConcern(w=3, wtimeout=20_000))
            write.insert_many([{"a": number} for number in range(500)])
            primary = client.primary
            assert primary is not None
            before = aggregations(primary)
            deployment = connect(mongodb_rs3.uri)
            await knows_a_secondary(deployment)
            counted = await deployment.count_violations(database, "c", {"a": {"$lt": 100}}, 20)
            assert counted == Violations(checked=500, violating=400, complete=True)
            assert aggregations(primary) == before
        finally:
            client.drop_database(database)


async def test_expired_documents_are_those_that_the_ttl_would_delete(
    mongodb: MongoDB, deployment: MongoDeployment, database: str
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    fill(
        mongodb,
        database,
        [
            *({"at": now - age * DAY} for age in range(10)),
            {"at": [now, now - 100 * DAY]},
            {"at": [now]},
            {"at": [{"x": now - 100 * DAY}]},
            {"at": 5},
            {"at": None},
            {"at": (now - 100 * DAY).isoformat()},
            {},
        ],
    )
    day = 24 * 3600
    assert await deployment.count_expired(database, "c", "at", day * 5 + 3600, 20) == 5
    assert await deployment.count_expired(database, "c", "at.x", day, 20) == 1
    assert await deployment.count_expired(database, "c", "absent", 0, 20) == 0
    assert await deployment.count_expired(database, "absent", "at", 0, 20) == 0
    assert await deployment.count_expired(database, "c", "at", day, 0) is None


@pytest.mark.parametrize(
    ("documents", "definition", "groups", "counted", "examples"),
    [
        ([{"_id": 1, "a": 1}, {"_id": 2, "a": 1.0}, {"_id": 3, "a": 2}], index(("a", 1)), 1, 2, {("1", "2")}),
        ([{"_id": 1}, {"_id": 2, "a": None}, {"_id": 3, "a": 2}], index(("a", 1)), 1, 2, {("1", "2")}),
        ([{"_id": 1}, {"_id": 2}], index(("a", 1), sparse=True), 0, 0, set()),
        (
            [{"_id": 1, "b": 1}, {"_id": 2, "b": 1}],
            index(("a", 1), ("b", 1), sparse=True),
            1,
            2,
            {("1", "2")},
        ),
        ([{"_id": 1, "a": [1, 2, 2]}, {"_id": 2, "a": [3, 2]}], index(("a", 1)), 1, 2, {("1", "2")}),
        ([{"_id": 1, "a": []}, {"_id": 2}], index(("a", 1)), 0, 0, set()),
        ([{"_id": 1, "a": []}, {"_id": 2, "a": []}], index(("a", 1)), 1, 2, {("1", "2")}),
        (
            [{"_id": 1, "a": [{"b": 1}, {"b": 2}]}, {"_id": 2, "a": {"b": 2}}],
            index(("a.b", 1)),
            1,
            2,
            {("1", "2")},
        ),
        ([{"_id": 1, "a": "x"}, {"_id": 2, "a": "X"}], index(("a", 1)), 0, 0, set()),
        (
            [{"_id": 1, "a": "x"}, {"_id": 2, "a": "X"}],
            index(("a", 1), collation={"locale": "en", "strength": 2}),
            1,
            2,
            {("1", "2")},
        ),
        (
            [{"_id": 1, "a": 1, "b": 1}, {"_id": 2, "a": 1}, {"_id": 3, "a": 1, "b": 5}],
            index(("a", 1), partial_filter={"b": {"$exists": True}}),
            1,
            2,
            {("1", "3")},
        ),
        ([{"_id": 1, "a": 1, "b": 1}, {"_id": 2, "a": 1, "b": 2}], index(("a", 1), ("b", 1)), 0, 0, set()),
    ],
)
async def test_duplicates_are_what_a_unique_index_would_refuse(
    mongodb: MongoDB,
    deployment: MongoDeployment,
    database: str,
    documents: list[Any],
    definition: IndexDefinition,
    groups: int,
    counted: int,
    examples: set[tuple[str, ...]],
) -> None:
    fill(mongodb, database, documents)
    report = await deployment.duplicates(database, "c", definition, 20)
    assert (report.groups, report.documents, report.complete) == (groups, counted, True)
    assert {tuple(sorted(group)) for group in report.examples} == examples
    refused = False
    try:
        await deployment.create_index(database, "c", "made", unique(definition))
    except ServerRefusedError as error:
        refused = error.reason is Reason.DUPLICATE_KEYS
    assert refused is (groups > 0)


async def test_duplicates_beyond_the_sample_are_found(
    mongodb: MongoDB, deployment: MongoDeployment, database: str
) -> None:
    fill(mongodb, database, ({"a": number % 55_000} for number in range(60_000)))
    report = await deployment.duplicates(database, "c", index(("a", 1)), 60)
    assert (report.groups, report.documents, report.complete) == (5_000, 10_000, True)
    assert len(report.examples) == 5
    assert all(len(group) == 2 for group in report.examples)


async def test_a_search_for_duplicates_stops_with_its_budget(
    mongodb: MongoDB, deployment: MongoDeployment, database: str
) -> None:
    fill(mongodb, database, [{"a": 1}, {"a": 1}])
    report = await deployment.duplicates(database, "c", index(("a", 1), ("b", -1)), 0)
    assert report == DuplicateReport("{a: 1, b: -1}", groups=0, documents=0, complete=False)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (bson.ObjectId("65f000000000000000000001"), "65f000000000000000000001"),
        (
            bson.Binary.from_uuid(uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")),
            "00112233-4455-6677-8899-aabbccddeeff",
        ),
        (7, "7"),
        (bson.Int64(2**40), str(2**40)),
    ],
)
def test_an_id_without_meaning_is_shown(value: Any, shown: str) -> None:
    assert rendered_id(value) == shown


@pytest.mark.parametrize("value", ["secret@example.org", 1.5, True, {"email": "secret"}, None, b"secret"])
def test_any_other_id_is_shown_as_a_short_hash(value: Any) -> None:
    shown = rendered_id(value)
    assert shown.startswith("hash:")
    assert len(shown) == 17
    assert "secret" not in shown
    assert shown == rendered_id(value)


async def test_statistics_come_from_metadata(
    mongodb: MongoDB, deployment: MongoDeployment, database: str
) -> None:
    fill(mongodb, database, ({"a": "x" * 100} for _ in range(1_000)))
    stats = await deployment.collection_stats(database, "c")
    assert stats is not None
    assert stats.documents == 1_000
    assert stats.size_bytes > 100_000
    assert stats.index_count == 1


def unique(definition: IndexDefinition) -> IndexDefinition:
    return replace(definition, unique=True)


def aggregations(address: tuple[str, int]) -> int:
    with MongoClient(*address, directConnection=True) as client:
        return int(client.admin.command("serverStatus")["metrics"]["commands"]["aggregate"]["total"])
