"""The pure parts: which index carries a key, bounds as the server fills them in, order of a sample."""

from typing import Any

import pytest
from bson import Binary
from hypothesis import given
from hypothesis import strategies as st
from sharding_bed import Cluster

from lucid_storage.errors import NotSupportedError
from lucid_storage.stores.documents import to_bson
from lucid_storage.stores.mongodb.sharding.actions import require_resharding
from lucid_storage.stores.mongodb.sharding.bounds import full_bound, full_range, same_range
from lucid_storage.stores.mongodb.sharding.catalogue import sharded_state
from lucid_storage.stores.mongodb.sharding.order import UnknownOrderError, in_order
from lucid_storage.stores.mongodb.sharding.preflight import rank_correlation
from lucid_storage.stores.mongodb.sharding.supporting import supporting_indexes
from lucid_storage.stores.mongodb.sharding.types import KeyRange, ShardKey
from lucid_storage.stores.mongodb.sharding.watching import progress, shard_figures
from lucid_storage.stores.mongodb.types import IndexDefinition, IndexState, KeyOrder, ServerInfo, Topology

A_B: ShardKey = (("a", 1), ("b", 1))
MIN, MAX = {"$minKey": 1}, {"$maxKey": 1}


def index(name: str, *keys: tuple[str, KeyOrder], building: bool = False, **options: Any) -> IndexState:
    return IndexState(name, IndexDefinition(keys=keys, **options), building=building)


def test_the_key_itself_carries_best_and_longer_indexes_too() -> None:
    found = supporting_indexes(
        A_B,
        [
            index("long", ("a", 1), ("b", 1), ("c", -1)),
            index("exact", ("a", 1), ("b", 1)),
            index("turned", ("b", 1), ("a", 1)),
            index("down", ("a", -1), ("b", 1)),
            index("short", ("a", 1)),
        ],
    )
    assert found.names == ("exact", "long")
    assert found.unfit == ()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"sparse": True}, "it is sparse"),
        ({"partial_filter": {"a": 1}}, "it is partial"),
        ({"hidden": True}, "it is hidden"),
        ({"collation": {"locale": "de"}}, "its collation is not the simple one"),
        ({"building": True}, "it is being built"),
    ],
)
def test_an_index_that_lacks_documents_or_their_order_does_not_carry(
    options: dict[str, Any], why: str
) -> None:
    found = supporting_indexes(A_B, [index("near", ("a", 1), ("b", 1), **options)])
    assert (found.names, found.unfit) == ((), (("near", why),))


def test_a_hashed_key_needs_a_hashed_index() -> None:
    key: ShardKey = (("a", "hashed"),)
    assert supporting_indexes(key, [index("range", ("a", 1))]).names == ()
    assert supporting_indexes(key, [index("hash", ("a", "hashed"))]).names == ("hash",)


def test_a_unique_key_needs_a_unique_index_of_exactly_the_key() -> None:
    found = supporting_indexes(
        A_B, [index("plain", ("a", 1), ("b", 1)), index("longer", ("a", 1), ("b", 1), ("c", 1), unique=True)]
    )
    assert found.unique_names == ()
    assert supporting_indexes(A_B, [index("u", ("a", 1), ("b", 1), unique=True)]).unique_names == ("u",)
    assert supporting_indexes((("_id", 1),), [index("_id_", ("_id", 1))]).unique_names == ("_id_",)


def test_unique_indexes_that_do_not_begin_with_the_key_stand_in_the_way() -> None:
    found = supporting_indexes(
        A_B,
        [
            index("_id_", ("_id", 1)),
            index("mail", ("mail", 1), unique=True),
            index("fine", ("a", 1), ("b", 1), ("mail", 1), unique=True),
        ],
    )
    assert found.unique_conflicts == ("mail",)


def test_bounds_are_filled_in_as_the_server_does() -> None:
    assert full_bound({"a": 5}, A_B) == {"a": 5, "b": MIN}
    assert full_bound({"b": 2, "a": 5}, A_B) == {"a": 5, "b": 2}
    assert full_bound({"a": MAX}, A_B) == {"a": MAX, "b": MAX}
    assert full_bound(MIN, A_B) == {"a": MIN, "b": MIN}
    assert full_bound({"$maxKey": 1}, A_B) == {"a": MAX, "b": MAX}
    assert full_bound({"b": 5}, A_B) == {"b": 5}
    assert full_bound({"a": 5, "c": 1}, A_B) == {"a": 5, "c": 1}


ASCENDING: list[Any] = [
    MIN,
    None,
    {"$numberDecimal": "-Infinity"},
    -5,
    {"$numberLong": "-4"},
    0.5,
    {"$numberDecimal": "0.75"},
    {"$numberLong": "9007199254740993"},
    "",
    "Z",
    "a",
    "\u00e9",
    "\U0001f600",
    {"$oid": "0" * 24},
    {"$oid": "f" * 24},
    False,
    True,
    {"$date": "1969-01-01T00:00:00Z"},
    {"$date": "2026-01-01T00:00:00Z"},
    MAX,
]


@pytest.mark.mongodb
async def test_bounds_are_sorted_as_the_server_sorts_them(sharded: Cluster, sharded_database: str) -> None:
    """By a server's own order of an ascending index, and by ours."""
    documents = [to_bson({"_id": place, "a": value}) for place, value in enumerate(ASCENDING)]
    with sharded.client() as client:
        collection = client[sharded_database].sorted
        collection.insert_many(documents[::-1])
        assert [found["_id"] for found in collection.find().sort("a", 1)] == list(range(len(ASCENDING)))
    key: ShardKey = (("a", 1),)
    for place, low in enumerate(ASCENDING):
        for other, high in enumerate(ASCENDING):
            assert in_order(KeyRange({"a": low}, {"a": high}), key) is (place < other)


@pytest.mark.parametrize("value", [{"b": 1}, [1], {"$uuid": "00000000-0000-4000-8000-000000000000"}])
def test_what_only_the_server_can_compare_is_left_to_it(value: Any) -> None:
    key: ShardKey = (("a", 1),)
    with pytest.raises(UnknownOrderError):
        in_order(KeyRange({"a": value}, {"a": value}), key)
    assert in_order(KeyRange({"a": MIN}, {"a": value}), key)
    assert in_order(KeyRange({"a": value}, {"a": MAX}), key)


def test_ranges_are_compared_by_value() -> None:
    declared = full_range(KeyRange({"a": 5}, MAX), A_B)
    observed = KeyRange({"a": {"$numberInt": "5"}, "b": MIN}, {"a": MAX, "b": MAX})
    assert same_range(declared, observed)
    assert not same_range(declared, KeyRange({"a": 6, "b": MIN}, {"a": MAX, "b": MAX}))


def test_the_order_of_a_sample_is_measured_by_ranks() -> None:
    assert rank_correlation([[3], [10], [11], [500]]) == 1.0
    assert rank_correlation([[500], [11], [10], [3]]) == -1.0
    assert rank_correlation([[1, 2, 3]]) is None
    assert rank_correlation([]) is None
    tied = rank_correlation([[0, 1, 2], [3, 4, 5]])
    assert tied is not None
    assert 0.8 < tied < 1.0


@given(st.permutations(range(40)))
def test_a_correlation_is_between_minus_one_and_one_and_turns_with_the_order(order: list[int]) -> None:
    steps = [[place] for place in order]
    forward, backward = rank_correlation(steps), rank_correlation(steps[::-1])
    assert forward is not None
    assert backward is not None
    assert -1.0 - 1e-9 <= forward <= 1.0 + 1e-9
    assert forward == pytest.approx(-backward)


def test_orphans_are_no_documents_of_a_shard() -> None:
    stats = {"count": 100, "size": 5_000, "storageSize": 4_096, "avgObjSize": 50, "numOrphanDocs": 20}
    found = shard_figures({"shard": "s0", "storageStats": stats})
    assert (found.documents, found.size_bytes, found.orphans) == (80, 4_000, 20)
    assert shard_figures({"shard": "s0", "storageStats": {"count": 3}}).documents == 3


def test_progress_is_that_of_all_shards_and_never_full_before_the_end() -> None:
    assert progress([]) == (None, None)
    assert progress([{"approxBytesToCopy": 0, "bytesCopied": 0}]) == (None, None)
    shards = [
        {"approxBytesToCopy": 100, "bytesCopied": 100, "remainingOperationTimeEstimatedSecs": -1},
        {"approxBytesToCopy": 300, "bytesCopied": 100, "remainingOperationTimeEstimatedSecs": 40},
    ]
    assert progress(shards) == (50, 40)
    assert progress([{"approxBytesToCopy": 10, "bytesCopied": 30}]) == (99, None)


def test_an_entry_of_the_catalogue_is_read_in_all_versions() -> None:
    entry = {"uuid": Binary(bytes(16), 4), "key": {"a": 1.0, "b": "hashed"}, "unique": True}
    old = sharded_state("db", "c", {**entry, "noBalance": True})
    assert (old.key, old.unique, old.balancing) == ((("a", 1), ("b", "hashed")), True, False)
    busy = sharded_state(
        "db", "c", {**entry, "permitMigrations": False, "reshardingFields": {"state": "cloning"}}
    )
    assert (busy.migrations_allowed, busy.resharding) == (False, True)


def test_resharding_is_refused_before_5() -> None:
    require_resharding(ServerInfo("c", (5, 0, 0), Topology.SHARDED), "db.c")
    with pytest.raises(NotSupportedError, match=r"before MongoDB 5\.0"):
        require_resharding(ServerInfo("c", (4, 4, 29), Topology.SHARDED), "db.c")
