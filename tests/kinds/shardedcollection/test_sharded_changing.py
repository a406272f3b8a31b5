"""What is done about a shard key that differs from the declared one: plans as values."""

from dataclasses import replace
from typing import Any

import pytest
from sharded_builder import (
    EMPTY,
    ID_INDEX,
    NOW,
    SESSION,
    UUID,
    collection,
    desired,
    gaps,
    index,
    planned,
    sample,
    server,
    settled,
    sharded,
    state,
)

from lucid_storage.errors import Reason
from lucid_storage.kinds.shardedcollection.actions import (
    ClearRange,
    KeyFindings,
    RefineKey,
    Reshard,
)
from lucid_storage.stores.mongodb.sharding.types import (
    KeyRange,
    Resharding,
    ReshardPhase,
    ZoneState,
)
from lucid_storage.stores.mongodb.types import CollectionOptions

MIN, MAX = {"$minKey": 1}, {"$maxKey": 1}
EUROPE = {"name": "europe", "shards": ["s0"], "ranges": [{"min": {"region": "EU"}, "max": {"region": "EV"}}]}
EU = KeyRange({"region": "EU"}, {"region": "EV"})
REFINED = (("region", 1), ("order_id", 1))
ALLOWED: dict[str, Any] = {"changePolicy": "Reshard"}


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
    assert made.actions == (RefineKey("shop.orders", REFINED, uuid=UUID),)
    assert made.journal
    assert made.status.operation == "Refining"


def test_a_refined_key_needs_no_consent_since_it_is_never_poorer_than_the_former_one() -> None:
    poor = KeyFindings(gaps(), sample(correlation=1.0))
    carried = sharded(indexes=(index(*REFINED),))
    made = planned(desired(REFINED, changePolicy="Refine"), carried, settled(), found=poor)
    assert made.actions == (RefineKey("shop.orders", REFINED, uuid=UUID),)
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
    assert made.actions == (Reshard("shop.orders", SESSION, uuid=UUID),)
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


@pytest.mark.parametrize("policy", ["Refuse", "Refine", "Reshard"])
def test_the_key_of_a_time_series_is_not_changed_whatever_the_policy(policy: str) -> None:
    series = collection(CollectionOptions(time_series={"timeField": "at", "metaField": "meta"}), "timeseries")
    seen = sharded((("meta", 1),), collection=series)
    seen = replace(seen, state=state((("meta", 1),), time_series=True))
    known = settled(key="meta:1")
    made = planned(desired((("meta", 1), ("at", 1)), changePolicy=policy), seen, known)
    assert not made.actions
    assert made.verdict is not None
    assert (made.verdict.reason, made.verdict.stalled) == (Reason.NOT_SUPPORTED, True)
    for part in ("time series", "meta:1, at:1", "set the declared key back"):
        assert part in made.verdict.message


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
    assert made.actions == (Reshard("shop.orders", SESSION, 16, uuid=UUID),)
    assert planned(wanted, sharded(SESSION), made.status).verdict is None


def test_zones_that_were_given_up_are_cleared_before_resharding() -> None:
    seen = sharded(zones=(ZoneState("europe", ("s0",), (EU,)),), indexes=(index(("session_id", "hashed")),))
    made = planned(desired(SESSION, zones=[], **ALLOWED), seen, settled())
    assert made.actions == (
        ClearRange("shop.orders", "europe", EU),
        Reshard("shop.orders", SESSION, uuid=UUID),
    )


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


def state_unique() -> Any:
    return replace(state(), unique=True)
