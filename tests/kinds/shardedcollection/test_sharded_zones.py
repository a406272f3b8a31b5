"""What is done about zones and balancing: plans as values."""

from dataclasses import replace
from typing import Any

import pytest
from sharded_builder import (
    balancer,
    cluster,
    desired,
    planned,
    settled,
    sharded,
    spread,
    state,
    unsharded,
)

from lucid_storage.errors import Reason, RefusedError
from lucid_storage.kinds.shardedcollection.actions import (
    AddShardToZone,
    AssignRange,
    ClearRange,
    RemoveShardFromZone,
    SetBalancerWindow,
    SetBalancing,
)
from lucid_storage.kinds.shardedcollection.observed import Neighbours
from lucid_storage.kinds.shardedcollection.zones import ForeignZone
from lucid_storage.stores.mongodb.sharding.types import (
    BalancerWindow,
    KeyRange,
    ZoneState,
)

MIN, MAX = {"$minKey": 1}, {"$maxKey": 1}
EUROPE = {"name": "europe", "shards": ["s0"], "ranges": [{"min": {"region": "EU"}, "max": {"region": "EV"}}]}
EU = KeyRange({"region": "EU"}, {"region": "EV"})
REFINED = (("region", 1), ("order_id", 1))


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


@pytest.mark.parametrize(
    ("users", "members", "declared", "refused"),
    [
        ({"shop.users"}, ["s0", "s1"], None, True),
        ({"shop.users"}, ["s1"], None, True),
        ({"shop.orders"}, ["s0", "s1"], None, False),
        ({"shop.users"}, ["s0"], None, False),
        (set(), ["s1"], None, False),
        ({"shop.users"}, ["s0", "s1"], "shop.users", False),
        ({"shop.users", "shop.more"}, ["s0", "s1"], "shop.users", True),
    ],
)
def test_shards_of_a_zone_are_not_changed_under_collections_that_nobody_declares_with_them(
    users: set[str], members: list[str], declared: str | None, refused: bool
) -> None:
    """It would move their documents."""
    others = (ForeignZone("europe", frozenset({"s0"}), "lucid/users", True, declared),) if declared else ()
    seen = sharded(
        cluster=cluster(europe=members),
        zones=(ZoneState("europe", tuple(members), (EU,)),),
        zone_users={"europe": frozenset(users)},
        neighbours=Neighbours(zones=others),
    )
    for is_settled in (False, True):
        made = planned(desired(zones=[EUROPE]), seen, settled(), is_settled=is_settled)
        assert (made.verdict is not None) is refused
        if made.verdict is not None:
            assert (made.verdict.reason, made.verdict.stalled) == (Reason.CONFLICT, True)
            assert "would be moved" in made.verdict.message
            assert not made.actions
    only_told = planned(desired(zones=[EUROPE], driftPolicy="Report"), seen, settled(), is_settled=True)
    assert only_told.verdict is None


@pytest.mark.parametrize("bound", [{"country": "EU"}, {"order_id": 1}, {}])
def test_a_bound_that_does_not_begin_with_the_key_is_refused(bound: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match="first fields of the shard key"):
        desired(REFINED, zones=[{**EUROPE, "ranges": [{"min": bound, "max": MAX}]}])


def zone(name: str, *ranges: tuple[Any, Any]) -> dict[str, Any]:
    return {"name": name, "shards": ["s0"], "ranges": [{"min": low, "max": high} for low, high in ranges]}


def at(value: Any) -> dict[str, Any]:
    return {"region": value}


@pytest.mark.parametrize(
    "zones",
    [
        [zone("a", (at("A"), at("F"))), zone("b", (at("E"), at("Z")))],
        [zone("a", (at(1), at(9)), (at(3), at(4)))],
        [zone("a", (MIN, at(5))), zone("b", (at({"$numberDecimal": "4.5"}), MAX))],
        [zone("a", (at(1), at(9))), zone("b", (at(1), at(9)))],
        [zone("a", (at(1), at("x"))), zone("b", (at({"$numberLong": "7"}), at(8)))],
        [
            zone("a", (at({"$date": "2026-01-01T00:00:00Z"}), at({"$date": "2026-03-01T00:00:00Z"}))),
            zone("b", (at({"$date": "2026-02-01T00:00:00Z"}), MAX)),
        ],
    ],
)
def test_ranges_that_overlap_are_refused_before_others_are_cleared(zones: Any) -> None:
    with pytest.raises(RefusedError, match="overlap") as refused:
        desired(zones=zones)
    assert refused.value.reason is Reason.INVALID_SPEC


@pytest.mark.parametrize("bounds", [(at("B"), at("A")), (at(5), at(5)), (MAX, MIN), (at("x"), at(1))])
def test_a_range_that_holds_nothing_is_refused(bounds: Any) -> None:
    with pytest.raises(RefusedError, match="holds nothing"):
        desired(zones=[zone("a", bounds)])


@pytest.mark.parametrize(
    "zones",
    [
        [zone("a", (at("A"), at("F"))), zone("b", (at("F"), at("Z")))],
        [zone("b", (at("F"), at("Z"))), zone("a", (MIN, at("F")))],
        [zone("a", (at({"a": 1}), at({"a": 3}))), zone("b", (at({"a": 2}), at({"a": 4})))],
        [zone("a", (at({"$uuid": "00000000-0000-4000-8000-000000000000"}), MAX))],
    ],
)
def test_ranges_side_by_side_and_those_that_only_the_server_can_compare_are_taken(zones: Any) -> None:
    assert len(desired(zones=zones).zones or ()) == len(zones)


def test_a_compound_key_is_compared_field_by_field() -> None:
    low, middle, high = ({"region": "EU", "order_id": n} for n in (1, 5, 9))
    assert desired(REFINED, zones=[zone("a", (low, middle)), zone("b", (middle, high))]).zones
    with pytest.raises(RefusedError, match="overlap"):
        desired(REFINED, zones=[zone("a", (low, high)), zone("b", ({"region": "EU"}, middle))])


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


def state_balancing(enabled: bool) -> Any:
    return replace(state(), balancing=enabled)
