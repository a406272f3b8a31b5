"""What is done about a collection that is not sharded yet: plans as values."""

from typing import Any

import pytest
from sharded_builder import (
    EMPTY,
    ID_INDEX,
    REGION,
    SESSION,
    UUID,
    absent,
    collection,
    desired,
    gaps,
    index,
    planned,
    sample,
    server,
    settled,
    sharded,
    status,
    unsharded,
)

from lucid_storage.errors import Reason, RefusedError
from lucid_storage.kinds import specs
from lucid_storage.kinds.shardedcollection.actions import EnableSharding, KeyFindings, ShardCollection
from lucid_storage.kinds.shardedcollection.desired import KEY_LIMIT, shown_key
from lucid_storage.kinds.shardedcollection.observed import DeclaredCollection, Neighbours
from lucid_storage.kube.resources import Resource
from lucid_storage.models.shardedcollection import ShardedCollectionSpec
from lucid_storage.stores.mongodb.types import Capped, CollectionOptions, Topology


def test_an_absent_collection_is_sharded_and_thereby_made() -> None:
    made = planned(desired(SESSION, numInitialChunks=8), absent())
    assert made.actions == (
        EnableSharding("shop"),
        ShardCollection("shop.orders", SESSION, num_initial_chunks=8, empty=True),
    )
    assert made.journal, "what cannot be undone is written down before"
    assert made.status.operation == "Sharding"
    assert made.status.initial_chunks == 8


def test_an_empty_collection_needs_no_index_since_the_server_makes_it() -> None:
    made = planned(desired(unique=True), unsharded(indexes=(ID_INDEX,)), found=EMPTY)
    assert made.actions[1] == ShardCollection("shop.orders", REGION, unique=True, uuid=UUID, empty=True)


def test_documents_are_examined_before_a_collection_with_documents_is_sharded() -> None:
    made = planned(desired(), unsharded())
    assert made.actions[1] == ShardCollection("shop.orders", REGION, uuid=UUID)
    assert made.status.preflight is not None
    assert made.status.preflight.verdict == "Good"
    assert made.status.preflight.documents == 10_000


def test_a_collation_of_the_collection_is_no_obstacle_for_the_key() -> None:
    german = collection(CollectionOptions(collation={"locale": "de"}))
    made = planned(desired(), unsharded(collection=german))
    assert made.actions[1] == ShardCollection("shop.orders", REGION, simple_collation=True, uuid=UUID)


def test_a_declared_collection_is_waited_for_and_not_made_without_its_options() -> None:
    made = planned(desired(), absent(neighbours=Neighbours(DeclaredCollection("lucid/orders"))))
    assert not made.actions
    assert made.verdict is not None
    assert (made.verdict.reason, made.verdict.stalled) == (Reason.COLLECTION_NOT_READY, False)
    assert "lucid/orders" in made.verdict.message


@pytest.mark.parametrize("topology", [Topology.REPLICA_SET, Topology.STANDALONE])
def test_a_deployment_that_is_not_sharded_is_one_clear_condition(topology: Topology) -> None:
    made = planned(desired(), unsharded(server=server(topology=topology), cluster=None))
    assert made.verdict is not None
    assert (made.verdict.reason, made.verdict.stalled) == (Reason.NOT_SHARDED, True)
    assert "mongos" in made.verdict.message
    assert not made.actions
    assert made.recheck_seconds is None, "the sweep is enough"


def test_a_crash_before_the_server_was_asked_begins_anew() -> None:
    made = planned(desired(), unsharded(), status(operation="Sharding"))
    assert [type(a) for a in made.actions] == [EnableSharding, ShardCollection]


def test_a_crash_after_the_server_did_it_ends_the_work() -> None:
    made = planned(desired(), sharded(), status(operation="Sharding"))
    assert not made.actions
    assert made.verdict is None
    assert made.status.operation is None
    assert made.status.key == "region:1"
    assert made.status.backup_needed_since is None
    assert [n.reason for n in made.notices] == ["Sharded"]


def test_what_was_sharded_by_hand_is_adopted() -> None:
    made = planned(desired(), sharded())
    assert not made.actions
    assert made.verdict is None
    assert not made.notices


def test_a_collection_that_lost_its_shard_key_is_sharded_again() -> None:
    made = planned(desired(), unsharded(), settled(), is_settled=True, found=EMPTY)
    assert [d.field for d in made.drift] == ["shardKey"]
    assert [type(a) for a in made.actions] == [EnableSharding, ShardCollection]


@pytest.mark.parametrize(("policy", "told"), [("Report", ["shardKey"]), ("Ignore", [])])
def test_a_lost_shard_key_is_only_told_unless_drift_is_corrected(policy: str, told: list[str]) -> None:
    made = planned(desired(driftPolicy=policy), unsharded(), settled(), is_settled=True)
    assert not made.actions
    assert [d.field for d in made.drift] == told


# Collections that cannot be sharded


@pytest.mark.parametrize(
    ("kind", "options", "word"),
    [
        ("view", CollectionOptions(), "view"),
        ("collection", CollectionOptions(capped=Capped(4096)), "capped"),
        ("timeseries", CollectionOptions(time_series={"timeField": "at", "metaField": "meta"}), "metaField"),
        ("timeseries", CollectionOptions(time_series={"timeField": "at"}), "timeField"),
    ],
)
def test_what_cannot_be_sharded_is_refused_with_a_sentence(
    kind: str, options: CollectionOptions, word: str
) -> None:
    made = planned(desired(), unsharded(collection=collection(options, kind)))
    assert made.verdict is not None
    assert (made.verdict.reason, made.verdict.stalled) == (Reason.NOT_SHARDABLE, True)
    assert word in made.verdict.message
    assert not made.actions


@pytest.mark.parametrize(
    "declared",
    [
        DeclaredCollection("lucid/orders", capped=True),
        DeclaredCollection("lucid/orders", time_series={"timeField": "at"}),
    ],
)
def test_a_declared_collection_that_cannot_be_sharded_is_refused_before_it_is_made(
    declared: DeclaredCollection,
) -> None:
    made = planned(desired(), absent(neighbours=Neighbours(declared)))
    assert made.verdict is not None
    assert made.verdict.reason is Reason.NOT_SHARDABLE


@pytest.mark.parametrize("options", [CollectionOptions(), CollectionOptions(capped=Capped(4096))])
def test_what_a_collection_declares_as_capped_is_refused_by_its_name_and_not_sharded_under_it(
    options: CollectionOptions,
) -> None:
    declared = Neighbours(DeclaredCollection("lucid/log", capped=True))
    made = planned(desired(), unsharded(collection=collection(options), neighbours=declared))
    assert made.verdict is not None
    assert (made.verdict.reason, made.verdict.stalled) == (Reason.NOT_SHARDABLE, True)
    assert "the Collection lucid/log declares" in made.verdict.message.replace("The C", "the C")


def test_a_collection_that_declares_what_is_sharded_as_capped_later_does_not_touch_it() -> None:
    declared = Neighbours(DeclaredCollection("lucid/log", capped=True))
    assert planned(desired(), sharded(neighbours=declared)).verdict is None


@pytest.mark.parametrize(
    ("key", "fits"),
    [
        ((("meta", 1), ("at", 1)), True),
        ((("meta.sensor", "hashed"),), True),
        ((("at", 1),), True),
        ((("at", 1), ("meta", 1)), False),
        ((("at", "hashed"),), False),
        ((("metadata", 1),), False),
    ],
)
def test_a_time_series_is_sharded_by_its_meta_field_and_last_its_time_field(key: Any, fits: bool) -> None:
    series = collection(CollectionOptions(time_series={"timeField": "at", "metaField": "meta"}), "timeseries")
    made = planned(desired(key), unsharded(collection=series), found=EMPTY)
    assert (made.verdict is None) is fits


def test_a_time_series_before_5_1_is_refused() -> None:
    series = collection(CollectionOptions(time_series={"timeField": "at"}), "timeseries")
    made = planned(desired((("at", 1),)), unsharded(collection=series, server=server(5, 0)))
    assert made.verdict is not None
    assert "5.1" in made.verdict.message


def test_zones_of_a_time_series_are_refused_before_anything_is_done() -> None:
    series = collection(CollectionOptions(time_series={"timeField": "at", "metaField": "meta"}), "timeseries")
    zones = [{"name": "a", "shards": ["s0"], "ranges": [{"min": {"meta": 1}, "max": {"meta": 2}}]}]
    made = planned(desired((("meta", 1),), zones=zones), unsharded(collection=series))
    assert made.verdict is not None
    assert (made.verdict.reason, "remove zones" in made.verdict.message) == (Reason.NOT_SHARDABLE, True)


def test_the_uuid_of_a_time_series_is_not_compared_since_servers_do_not() -> None:
    series = collection(CollectionOptions(time_series={"timeField": "at", "metaField": "meta"}), "timeseries")
    made = planned(desired((("meta", 1),)), unsharded(collection=series), found=EMPTY)
    assert made.actions[1] == ShardCollection("shop.orders", (("meta", 1),), empty=True)


# Keys that no server takes


def test_a_hashed_key_is_never_unique_even_where_the_api_server_let_it_pass() -> None:
    with pytest.raises(RefusedError, match="remove unique") as refused:
        desired((("_id", "hashed"),), unique=True)
    assert refused.value.reason is Reason.INVALID_SPEC
    assert desired((("_id", "hashed"),), unique=False).key == (("_id", "hashed"),)


def test_a_key_of_300_fields_is_one_clear_refusal() -> None:
    keys = [{"field": f"f{n}", "order": 1} for n in range(300)]
    body = {
        "metadata": {"name": "orders", "namespace": "lucid", "uid": "u"},
        "spec": {"collection": "orders", "shardKey": keys},
    }
    with pytest.raises(RefusedError, match="shardKey") as refused:
        specs.parse(ShardedCollectionSpec, Resource.from_body("shardedcollections", body))
    assert refused.value.reason is Reason.INVALID_SPEC
    assert len(refused.value.message) < 500


def test_two_long_keys_are_never_taken_for_one() -> None:
    """A consent, or the memory of the former key, is about one key alone."""
    fields = [f"{'x' * 240}{n}" for n in range(32)]
    one = tuple((field, 1) for field in fields)
    other = (*one[:-1], (fields[-1], "hashed"))
    assert shown_key(one) != shown_key(other)
    assert len(shown_key(one)) == len(shown_key(other)) == KEY_LIMIT
    poor = KeyFindings(gaps(), sample(distinct=3))
    seen = unsharded(indexes=(ID_INDEX, index(*other)))
    assert not planned(desired(other, accepted=shown_key(one)), seen, found=poor).actions
    assert planned(desired(other, accepted=shown_key(other)), seen, found=poor).actions
