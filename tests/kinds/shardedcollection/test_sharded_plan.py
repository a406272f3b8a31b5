"""What is done about a sharded collection: plans as values."""

from dataclasses import replace
from typing import Any

import pytest
from sharded_builder import (
    EMPTY,
    ID_INDEX,
    NOW,
    REGION,
    SESSION,
    absent,
    balancer,
    cluster,
    collection,
    desired,
    gaps,
    index,
    planned,
    sample,
    server,
    settled,
    sharded,
    spread,
    state,
    status,
    unsharded,
)

from lucid_storage.errors import Reason, RefusedError
from lucid_storage.kinds.shardedcollection.actions import (
    AddShardToZone,
    AssignRange,
    ClearRange,
    EnableSharding,
    KeyFindings,
    RefineKey,
    RemoveShardFromZone,
    Reshard,
    SetBalancerWindow,
    SetBalancing,
    ShardCollection,
)
from lucid_storage.kinds.shardedcollection.observed import DeclaredCollection, Neighbours
from lucid_storage.kinds.shardedcollection.zones import ForeignZone
from lucid_storage.stores.mongodb.sharding.types import (
    BalancerWindow,
    KeyRange,
    Resharding,
    ReshardPhase,
    ZoneState,
)
from lucid_storage.stores.mongodb.types import Capped, CollectionOptions, Topology

MIN, MAX = {"$minKey": 1}, {"$maxKey": 1}
EUROPE = {"name": "europe", "shards": ["s0"], "ranges": [{"min": {"region": "EU"}, "max": {"region": "EV"}}]}
EU = KeyRange({"region": "EU"}, {"region": "EV"})
REFINED = (("region", 1), ("order_id", 1))
ALLOWED: dict[str, Any] = {"changePolicy": "Reshard"}


# Sharding


def test_an_absent_collection_is_sharded_and_thereby_made() -> None:
    made = planned(desired(SESSION, numInitialChunks=8), absent())
    assert made.actions == (
        EnableSharding("shop"),
        ShardCollection("shop.orders", SESSION, num_initial_chunks=8),
    )
    assert made.journal, "what cannot be undone is written down before"
    assert made.status.operation == "Sharding"
    assert made.status.initial_chunks == 8


def test_an_empty_collection_needs_no_index_since_the_server_makes_it() -> None:
    made = planned(desired(unique=True), unsharded(indexes=(ID_INDEX,)), found=EMPTY)
    assert made.actions[1] == ShardCollection("shop.orders", REGION, unique=True)


def test_documents_are_examined_before_a_collection_with_documents_is_sharded() -> None:
    made = planned(desired(), unsharded())
    assert made.actions[1] == ShardCollection("shop.orders", REGION)
    assert made.status.preflight is not None
    assert made.status.preflight.verdict == "Good"
    assert made.status.preflight.documents == 10_000


def test_a_collation_of_the_collection_is_no_obstacle_for_the_key() -> None:
    german = collection(CollectionOptions(collation={"locale": "de"}))
    made = planned(desired(), unsharded(collection=german))
    assert made.actions[1] == ShardCollection("shop.orders", REGION, simple_collation=True)


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


# A key that differs


def test_another_key_is_refused_with_both_keys_and_what_would_change_it() -> None:
    made = planned(desired(SESSION), sharded(), settled())
    assert made.verdict is not None
    assert (made.verdict.reason, made.verdict.stalled) == (Reason.KEY_DIFFERS, True)
    for part in ("region:1", "session_id:hashed", "changePolicy: Reshard", "backup"):
        assert part in made.verdict.message
    assert "Refine" not in made.verdict.message, "that would not help here"
    assert not made.actions


def test_an_extended_key_is_told_that_it_can_be_refined() -> None:
    made = planned(desired(REFINED), sharded(), settled())
    assert made.verdict is not None
    assert "changePolicy: Refine" in made.verdict.message


def test_fields_are_added_at_the_end_of_the_key_when_that_is_allowed() -> None:
    carried = sharded(indexes=(ID_INDEX, index(*REFINED)))
    made = planned(desired(REFINED, changePolicy="Refine"), carried, settled())
    assert made.actions == (RefineKey("shop.orders", REFINED),)
    assert made.journal
    assert made.status.operation == "Refining"


def test_a_refined_key_needs_no_consent_since_it_is_never_poorer_than_the_former_one() -> None:
    poor = KeyFindings(gaps(), sample(correlation=1.0))
    carried = sharded(indexes=(index(*REFINED),))
    made = planned(desired(REFINED, changePolicy="Refine"), carried, settled(), found=poor)
    assert made.actions == (RefineKey("shop.orders", REFINED),)
    refused = KeyFindings(gaps(arrays=1), sample())
    made = planned(desired(REFINED, changePolicy="Refine"), carried, settled(), found=refused)
    assert not made.actions
    resharded = planned(desired(REFINED, **ALLOWED), carried, settled(), found=poor)
    assert not resharded.actions


def test_a_key_that_is_no_extension_is_not_refined() -> None:
    made = planned(desired(SESSION, changePolicy="Refine"), sharded(), settled())
    assert not made.actions
    assert made.verdict is not None
    assert made.verdict.reason is Reason.KEY_DIFFERS
    assert "Reshard" in made.verdict.message


def test_an_empty_sharded_collection_needs_its_index_before_the_key_is_refined() -> None:
    made = planned(
        desired(REFINED, changePolicy="Refine"), sharded(indexes=(ID_INDEX,)), settled(), found=EMPTY
    )
    assert made.verdict is not None
    assert made.verdict.reason is Reason.SUPPORTING_INDEX_MISSING


def test_the_collection_is_resharded_when_that_is_allowed() -> None:
    carried = sharded(indexes=(ID_INDEX, index(("session_id", "hashed"))))
    made = planned(desired(SESSION, **ALLOWED), carried, settled())
    assert made.actions == (Reshard("shop.orders", SESSION),)
    assert made.journal
    assert made.status.operation == "Resharding"


@pytest.mark.parametrize(
    ("policy", "version", "told"), [("Refine", (4, 2), "4.4"), ("Reshard", (4, 4), "5.0")]
)
def test_an_old_server_is_told_what_the_change_needs(policy: str, version: Any, told: str) -> None:
    made = planned(desired(REFINED, changePolicy=policy), sharded(server=server(*version)), settled())
    assert not made.actions
    assert made.verdict is not None
    assert made.verdict.reason is Reason.NOT_SUPPORTED
    assert told in made.verdict.message


def test_a_unique_key_is_not_resharded() -> None:
    made = planned(desired(SESSION, **ALLOWED), sharded(state=state_unique()), settled())
    assert not made.actions
    assert made.verdict is not None
    assert "unique" in made.verdict.message


@pytest.mark.parametrize("zones", [None, [{**EUROPE, "ranges": [{"min": MIN, "max": MAX}]}]])
def test_zones_are_not_given_up_silently_by_resharding(zones: Any) -> None:
    declared = {} if zones is None else {"zones": zones}
    seen = sharded(zones=(ZoneState("europe", ("s0",), (EU,)),))
    made = planned(desired(SESSION, **ALLOWED, **declared), seen, settled())
    assert not made.actions
    assert made.verdict is not None
    assert "zones: []" in made.verdict.message


def test_resharding_may_ask_for_another_number_of_first_chunks() -> None:
    carried = sharded(indexes=(index(("session_id", "hashed")),))
    wanted = desired(SESSION, numInitialChunks=16, **ALLOWED)
    made = planned(wanted, carried, settled(initial_chunks=8))
    assert made.actions == (Reshard("shop.orders", SESSION, 16),)
    assert planned(wanted, sharded(SESSION), made.status).verdict is None


def test_zones_that_were_given_up_are_cleared_before_resharding() -> None:
    seen = sharded(zones=(ZoneState("europe", ("s0",), (EU,)),), indexes=(index(("session_id", "hashed")),))
    made = planned(desired(SESSION, zones=[], **ALLOWED), seen, settled())
    assert made.actions == (ClearRange("shop.orders", "europe", EU), Reshard("shop.orders", SESSION))


@pytest.mark.parametrize("operation", [None, "Resharding"])
def test_a_resharding_that_runs_is_recognised_and_not_begun_twice(operation: str | None) -> None:
    seen = sharded(resharding=Resharding(ReshardPhase.COPYING, SESSION, percent=40))
    made = planned(desired(SESSION, **ALLOWED), seen, settled(operation=operation))
    assert not made.actions
    assert made.verdict is not None
    assert (made.verdict.reason, made.verdict.stalled) == (Reason.RESHARDING, False)
    assert made.status.progress == "40%"
    assert made.status.operation == "Resharding"
    assert made.recheck_seconds is not None


def test_a_resharding_to_another_key_than_declared_is_waited_for_and_told() -> None:
    seen = sharded(resharding=Resharding(ReshardPhase.PREPARING, (("other", 1),)))
    made = planned(desired(SESSION, **ALLOWED), seen, settled())
    assert made.verdict is not None
    assert "other:1" in made.verdict.message
    assert "session_id:hashed" in made.verdict.message


def test_a_call_that_has_not_returned_is_not_repeated() -> None:
    made = planned(
        desired(REFINED, changePolicy="Refine"), sharded(running=frozenset({"Refining"})), settled()
    )
    assert not made.actions
    assert made.verdict is not None
    assert not made.verdict.stalled


def test_a_change_that_failed_is_not_tried_again_for_the_same_generation() -> None:
    failed = settled(failure={"generation": 1, "message": "The server gave up."})
    carried = sharded(indexes=(index(("session_id", "hashed")),))
    made = planned(desired(SESSION, **ALLOWED), carried, failed)
    assert not made.actions
    assert made.verdict is not None
    assert made.verdict.stalled
    assert "The server gave up." in made.verdict.message
    failed.observed_generation = 2
    assert planned(desired(SESSION, **ALLOWED), carried, failed).actions


@pytest.mark.parametrize(
    ("policy", "drift", "ready"), [("Correct", 1, False), ("Report", 1, True), ("Ignore", 0, True)]
)
def test_a_key_that_somebody_else_changed_is_never_changed_back_by_itself(
    policy: str, drift: int, ready: bool
) -> None:
    made = planned(desired(driftPolicy=policy, **ALLOWED), sharded(SESSION), settled(), is_settled=True)
    assert not made.actions
    assert len(made.drift) == drift
    assert (made.verdict is None) is ready
    assert made.status.backup_needed_since == NOW


def test_unique_cannot_change_once_it_is_sharded() -> None:
    made = planned(desired(unique=True), sharded(), settled())
    assert made.verdict is not None
    assert (made.verdict.reason, made.verdict.stalled) == (Reason.KEY_DIFFERS, True)
    assert "unique: false" in made.verdict.message


def test_the_number_of_first_chunks_cannot_change_once_it_is_sharded() -> None:
    hashed = sharded(SESSION)
    known = settled(key="session_id:hashed", initial_chunks=8)
    made = planned(desired(SESSION, numInitialChunks=16), hashed, known)
    assert made.verdict is not None
    assert (made.verdict.reason, made.verdict.stalled) == (Reason.NOT_IN_PLACE, True)
    assert planned(desired(SESSION), hashed, known).verdict is None
    assert planned(desired(SESSION, numInitialChunks=8), hashed, known).verdict is None


# Zones and balancing


def test_zones_are_made_in_an_order_that_the_server_takes() -> None:
    made = planned(desired(zones=[EUROPE]), sharded(), settled())
    assert made.actions == (AddShardToZone("s0", "europe"), AssignRange("shop.orders", "europe", EU))
    assert not made.drift, "a new declaration is work, not drift"


def test_a_zone_that_moves_gets_its_new_shard_before_it_loses_the_old_one() -> None:
    seen = sharded(cluster=cluster(europe=["s1"]), zones=(ZoneState("europe", ("s1",), (EU,)),))
    made = planned(desired(zones=[EUROPE]), seen, settled(), is_settled=True)
    assert made.actions == (AddShardToZone("s0", "europe"), RemoveShardFromZone("s1", "europe"))
    assert [d.field for d in made.drift] == ["zones.europe.shards"]


def test_ranges_that_nobody_declares_go_before_new_ones_come() -> None:
    other = KeyRange({"region": "A"}, {"region": "Z"})
    seen = sharded(cluster=cluster(europe=["s0"]), zones=(ZoneState("all", ("s1",), (other,)),))
    made = planned(desired(zones=[EUROPE]), seen, settled(), is_settled=True)
    assert made.actions == (
        ClearRange("shop.orders", "all", other),
        AssignRange("shop.orders", "europe", EU),
    )


def test_zones_as_declared_are_nothing_to_do() -> None:
    seen = sharded(cluster=cluster(europe=["s0"]), zones=(ZoneState("europe", ("s0",), (EU,)),))
    made = planned(desired(zones=[EUROPE]), seen, settled(), is_settled=True)
    assert not made.actions
    assert not made.drift
    assert made.status.managed_fields == ["zones"]


def test_zones_that_are_not_declared_are_left_alone() -> None:
    seen = sharded(zones=(ZoneState("europe", ("s0",), (EU,)),))
    assert not planned(desired(), seen, settled()).actions


@pytest.mark.parametrize(("declared", "before"), [({"zones": []}, []), ({}, ["zones"])])
def test_no_zones_means_none_and_so_does_a_field_that_was_taken_out(
    declared: dict[str, Any], before: list[str]
) -> None:
    seen = sharded(zones=(ZoneState("europe", ("s0",), (EU,)),))
    made = planned(desired(**declared), seen, settled(managed_fields=before))
    assert made.actions == (ClearRange("shop.orders", "europe", EU),)


@pytest.mark.parametrize(("policy", "told"), [("Report", ["zones.europe.ranges"]), ("Ignore", [])])
def test_drift_of_zones_is_only_told_unless_it_is_corrected(policy: str, told: list[str]) -> None:
    seen = sharded(cluster=cluster(europe=["s0"]))
    made = planned(desired(zones=[EUROPE], driftPolicy=policy), seen, settled(), is_settled=True)
    assert not made.actions
    assert [d.field for d in made.drift] == told


def test_a_shard_that_the_cluster_does_not_have_is_refused_with_those_it_has() -> None:
    nowhere = {**EUROPE, "shards": ["s9"]}
    for seen in (unsharded(), sharded()):
        made = planned(desired(zones=[nowhere]), seen, settled())
        assert made.verdict is not None
        assert (made.verdict.reason, made.verdict.stalled) == (Reason.SHARD_UNKNOWN, True)
        assert "s9" in made.verdict.message
        assert "s0, s1" in made.verdict.message


@pytest.mark.parametrize(("older", "reason"), [(True, Reason.CONFLICT), (False, None)])
def test_the_older_of_two_that_give_one_zone_different_shards_has_it(
    older: bool, reason: Reason | None
) -> None:
    other = ForeignZone("europe", frozenset({"s1"}), "lucid/users", older)
    made = planned(desired(zones=[EUROPE]), sharded(neighbours=Neighbours(zones=(other,))), settled())
    assert (made.verdict.reason if made.verdict else None) is reason


@pytest.mark.parametrize("bound", [{"country": "EU"}, {"order_id": 1}, {}])
def test_a_bound_that_does_not_begin_with_the_key_is_refused(bound: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match="first fields of the shard key"):
        desired(REFINED, zones=[{**EUROPE, "ranges": [{"min": bound, "max": MAX}]}])


@pytest.mark.parametrize(("declared", "have"), [(True, False), (False, True)])
def test_balancing_is_as_declared(declared: bool, have: bool) -> None:
    seen = sharded(state=state_balancing(have))
    made = planned(desired(balancing={"enabled": declared}), seen, settled(), is_settled=True)
    assert made.actions == (SetBalancing("shop.orders", declared),)
    assert [d.field for d in made.drift] == ["balancing.enabled"]


def test_balancing_that_is_no_longer_declared_returns_to_on() -> None:
    made = planned(desired(), sharded(state=state_balancing(False)), settled(managed_fields=["balancing"]))
    assert made.actions == (SetBalancing("shop.orders", True),)


def test_balancing_that_is_not_declared_is_left_alone() -> None:
    assert not planned(desired(), sharded(state=state_balancing(False)), settled()).actions


def test_the_deployments_window_is_set_whatever_the_collection_is_like() -> None:
    night = BalancerWindow("02:00", "06:00")
    for seen in (unsharded(), sharded(), sharded(balancer=balancer(window=BalancerWindow("01:00", "02:00")))):
        made = planned(desired(window=night, driftPolicy="Ignore"), seen, settled())
        assert made.actions == (SetBalancerWindow(night),)
    assert not planned(desired(window=night), sharded(balancer=balancer(window=night)), settled()).actions
    assert not planned(desired(window=night), sharded(paused=True), settled()).actions


def test_a_window_without_the_operators_own_credentials_is_not_set() -> None:
    night = BalancerWindow("02:00", "06:00")
    assert desired(window=night, connection={"secretName": "theirs"}).window is None


def test_what_is_not_balanced_yet_is_looked_at_soon() -> None:
    made = planned(desired(), sharded(spread=spread(4, 0, compliant=False)), settled())
    assert made.verdict is None
    assert made.status.balanced == "False"
    assert made.recheck_seconds is not None
    assert made.recheck_seconds <= 60


def state_unique() -> Any:
    return replace(state(), unique=True)


def state_balancing(enabled: bool) -> Any:
    return replace(state(), balancing=enabled)
