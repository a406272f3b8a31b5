"""The pre-flight: what the documents and indexes say of a shard key, and what follows from it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sharded_builder import (
    EMPTY,
    GOOD,
    ID_INDEX,
    NOW,
    SESSION,
    desired,
    gaps,
    index,
    planned,
    sample,
    scope,
    settled,
    sharded,
    status,
    unsharded,
)

from lucid_storage.errors import Reason
from lucid_storage.kinds.shardedcollection.actions import ExamineKey, KeyFindings, ShardCollection
from lucid_storage.kinds.shardedcollection.observed import Neighbours
from lucid_storage.kinds.shardedcollection.plan import plan
from lucid_storage.models.shardedcollection import Preflight, ShardedCollectionStatus
from lucid_storage.stores.mongodb.sharding.types import KeyGaps
from lucid_storage.stores.mongodb.types import DuplicateReport

DUPLICATES = DuplicateReport('{"region": 1}', groups=2, documents=5, complete=True, examples=(("1", "2"),))
NO_DUPLICATES = DuplicateReport('{"region": 1}', groups=0, documents=0, complete=True)
REGION_INDEX = index(("region", 1))
UNREAD = KeyGaps(checked=0, missing=0, arrays=0, complete=False)
NONE_FOUND = KeyGaps(checked=0, missing=0, arrays=0, complete=True)


def verdicts(known: ShardedCollectionStatus) -> dict[str, str]:
    assert known.preflight is not None
    return {check.check: str(check.verdict) for check in known.preflight.checks}


def test_a_good_key_is_good_in_every_respect() -> None:
    made = planned(desired(), unsharded())
    assert verdicts(made.status) == {
        "SupportingIndex": "Good",
        "Coverage": "Good",
        "NullKeys": "Good",
        "Cardinality": "Good",
        "Monotonicity": "Good",
    }


def test_a_missing_index_is_offered_so_that_it_can_be_copied() -> None:
    made = planned(desired(SESSION), unsharded(indexes=(ID_INDEX,)))
    assert made.verdict is not None
    assert (made.verdict.reason, made.verdict.stalled) == (Reason.SUPPORTING_INDEX_MISSING, True)
    offer = (
        "spec: {engine: mongodb, mongodb: {database: shop, collection: orders,"
        " keys: [{field: session_id, order: hashed}]}}"
    )
    assert offer in made.verdict.message
    assert not made.actions


@pytest.mark.parametrize(
    ("unfit", "why"),
    [
        ({"sparse": True}, "sparse"),
        ({"partial_filter": {"a": 1}}, "partial"),
        ({"collation": {"locale": "de"}}, "collation"),
    ],
)
def test_an_index_that_nearly_serves_is_named_with_the_reason(unfit: dict[str, Any], why: str) -> None:
    near = index(("region", 1), name="near", **unfit)
    made = planned(desired(), unsharded(indexes=(ID_INDEX, near)))
    assert made.verdict is not None
    assert "near" in made.verdict.message
    assert why in made.verdict.message


def test_an_index_that_is_declared_or_being_built_is_waited_for() -> None:
    declared = unsharded(indexes=(ID_INDEX,), neighbours=Neighbours(indexes=("lucid/by-region",)))
    building = unsharded(indexes=(ID_INDEX, index(("region", 1), name="near", building=True)))
    for seen, named in ((declared, "lucid/by-region"), (building, "near")):
        made = planned(desired(), seen)
        assert made.verdict is not None
        assert (made.verdict.reason, made.verdict.stalled) == (Reason.SUPPORTING_INDEX_MISSING, False)
        assert named in made.verdict.message


def test_a_longer_index_carries_the_key_too() -> None:
    longer = index(("region", 1), ("created", -1))
    assert planned(desired(), unsharded(indexes=(ID_INDEX, longer))).actions


def test_another_unique_index_that_shards_cannot_enforce_is_refused() -> None:
    email = index(("email", 1), name="email", unique=True)
    for found in (GOOD, EMPTY):
        made = planned(desired(), unsharded(indexes=(ID_INDEX, REGION_INDEX, email)), found=found)
        assert made.verdict is not None
        assert made.verdict.reason is Reason.INDEX_CONFLICT
        assert "email" in made.verdict.message


def test_duplicates_under_a_unique_key_are_refused_and_counted_without_values() -> None:
    found = replace(GOOD, duplicates=DUPLICATES)
    unique = index(("region", 1), ("order_id", 1), unique=True)
    made = planned(desired(unique=True), unsharded(indexes=(ID_INDEX, unique)), found=found)
    assert verdicts(made.status)["Uniqueness"] == "Refused"
    assert not made.actions


def test_a_unique_key_needs_a_unique_index_even_without_duplicates() -> None:
    found = replace(GOOD, duplicates=NO_DUPLICATES)
    made = planned(desired(unique=True), unsharded(), found=found)
    assert made.verdict is not None
    assert made.verdict.reason is Reason.SUPPORTING_INDEX_MISSING
    assert "unique: true" in made.verdict.message
    assert verdicts(made.status)["Uniqueness"] == "Good"


def test_a_unique_index_proves_uniqueness_without_a_scan() -> None:
    seen = unsharded(indexes=(ID_INDEX, index(("region", 1), unique=True)))
    asked = plan(desired(unique=True), seen, status(), scope()).questions
    assert asked == (ExamineKey((("region", 1),), duplicates=False),)


def test_duplicates_that_were_found_count_no_more_where_a_unique_index_is_there() -> None:
    without = unsharded(indexes=(ID_INDEX,))
    first = planned(desired(unique=True), without, found=replace(GOOD, duplicates=DUPLICATES))
    assert first.verdict is not None
    assert first.verdict.reason is Reason.SUPPORTING_INDEX_MISSING
    assert verdicts(first.status)["Uniqueness"] == "Refused"
    proved = unsharded(indexes=(ID_INDEX, index(("region", 1), unique=True)))
    made = planned(desired(unique=True), proved, first.status, now=NOW + timedelta(minutes=1))
    assert made.verdict is None
    assert isinstance(made.actions[1], ShardCollection)


def test_arrays_in_the_key_are_refused() -> None:
    made = planned(desired(), unsharded(), found=KeyFindings(gaps(arrays=1), sample()))
    assert made.verdict is not None
    assert made.verdict.reason is Reason.SERVER_REFUSED
    assert verdicts(made.status)["ArrayKeys"] == "Refused"


@pytest.mark.parametrize(
    ("findings", "check", "verdict"),
    [
        (KeyFindings(gaps(missing=10), sample()), "NullKeys", "Acceptable"),
        (KeyFindings(gaps(missing=1_000), sample()), "NullKeys", "Poor"),
        (KeyFindings(gaps(), sample(distinct=3, most_frequent=2_000)), "Cardinality", "Poor"),
        (KeyFindings(gaps(), sample(most_frequent=2_600)), "Cardinality", "Poor"),
        (KeyFindings(gaps(), sample(most_frequent=600)), "Cardinality", "Acceptable"),
        (KeyFindings(gaps(), sample(distinct=50, most_frequent=200)), "Cardinality", "Acceptable"),
        (KeyFindings(gaps(20), sample(sampled=20, distinct=20)), "Cardinality", "Acceptable"),
        (KeyFindings(gaps(complete=False), sample()), "NullKeys", "Acceptable"),
        (KeyFindings(gaps(complete=False), sample(missing=600)), "NullKeys", "Poor"),
        (KeyFindings(UNREAD, sample(missing=5)), "NullKeys", "Acceptable"),
        (KeyFindings(gaps(), sample(correlation=0.99)), "Monotonicity", "Poor"),
        (KeyFindings(gaps(), sample(correlation=-0.95)), "Monotonicity", "Poor"),
        (KeyFindings(gaps(), sample(correlation=0.7)), "Monotonicity", "Acceptable"),
        (KeyFindings(gaps(), sample(correlation=None)), "Monotonicity", "Acceptable"),
    ],
)
def test_a_poor_key_waits_for_consent_and_an_acceptable_one_does_not(
    findings: KeyFindings, check: str, verdict: str
) -> None:
    made = planned(desired(), unsharded(), found=findings)
    assert verdicts(made.status)[check] == verdict
    if verdict == "Acceptable":
        assert made.actions
        return
    assert not made.actions
    assert made.verdict is not None
    assert (made.verdict.reason, made.verdict.stalled) == (Reason.POOR_SHARD_KEY, True)
    assert 'accept-shard-key: "region:1"' in made.verdict.message
    accepted = planned(desired(accepted="region:1"), unsharded(), found=findings)
    assert isinstance(accepted.actions[1], ShardCollection)


@pytest.mark.parametrize(
    ("findings", "check"),
    [
        (KeyFindings(UNREAD), "Coverage"),
        (KeyFindings(UNREAD), "NullKeys"),
        (KeyFindings(UNREAD, documents=10_000), "Cardinality"),
        (KeyFindings(NONE_FOUND, sample(sampled=0, distinct=0, most_frequent=0), documents=3), "Coverage"),
        (KeyFindings(NONE_FOUND), "Cardinality"),
        (KeyFindings(gaps(40), sample(sampled=40, distinct=40), documents=10_000), "Coverage"),
        (KeyFindings(gaps(), None, documents=10_000), "Cardinality"),
        (KeyFindings(gaps(), sample(sampled=0, distinct=0, most_frequent=0)), "Cardinality"),
        (KeyFindings(gaps(), sample(sampled=30, distinct=30)), "Cardinality"),
    ],
)
def test_what_was_not_read_is_unknown_and_waits_for_consent(findings: KeyFindings, check: str) -> None:
    made = planned(desired(), unsharded(), found=findings)
    assert verdicts(made.status)[check] == "Unknown"
    assert not made.actions
    assert made.verdict is not None
    assert (made.verdict.reason, made.verdict.stalled) == (Reason.SHARD_KEY_UNKNOWN, True)
    assert 'accept-shard-key: "region:1"' in made.verdict.message
    assert made.status.preflight is not None
    assert made.status.preflight.verdict == "Unknown"
    assert made.status.preflight.documents, "it is not told to be empty"
    accepted = planned(desired(accepted="region:1"), unsharded(), found=findings)
    assert isinstance(accepted.actions[1], ShardCollection)
    assert not accepted.actions[1].empty


def test_what_was_not_read_is_not_resharded_either_without_consent() -> None:
    carried = sharded(indexes=(ID_INDEX, index(*SESSION)))
    unread = KeyFindings(UNREAD, documents=10_000)
    made = planned(desired(SESSION, changePolicy="Reshard"), carried, settled(), found=unread)
    assert not made.actions
    assert made.verdict is not None
    assert made.verdict.reason is Reason.SHARD_KEY_UNKNOWN


def test_a_poor_key_is_told_before_what_is_unknown() -> None:
    found = KeyFindings(gaps(missing=5_000), None, documents=10_000)
    made = planned(desired(), unsharded(), found=found)
    assert made.verdict is not None
    assert made.verdict.reason is Reason.POOR_SHARD_KEY


def test_the_verdict_says_what_was_read_and_from_where() -> None:
    made = planned(desired(), unsharded())
    assert made.status.preflight is not None
    (coverage,) = [check for check in made.status.preflight.checks if check.check == "Coverage"]
    for part in ("10000 of about 10000", "5000 drawn as a sample", "secondaries"):
        assert part in coverage.message


def test_an_empty_collection_is_told_so_by_its_primaries_and_must_be_so_still() -> None:
    made = planned(desired(), unsharded(indexes=(ID_INDEX,)), found=EMPTY)
    assert isinstance(made.actions[1], ShardCollection)
    assert made.actions[1].empty
    assert made.status.preflight is not None
    assert made.status.preflight.documents == 0


def test_a_rising_value_is_no_matter_where_the_key_begins_hashed() -> None:
    seen = unsharded(indexes=(ID_INDEX, index(*SESSION)))
    made = planned(desired(SESSION), seen, found=KeyFindings(gaps(), sample(correlation=None)))
    assert verdicts(made.status)["Monotonicity"] == "Good"


def test_consent_is_to_one_key_and_never_to_what_the_server_would_refuse() -> None:
    poor = KeyFindings(gaps(), sample(distinct=3))
    assert not planned(desired(accepted="other:1"), unsharded(), found=poor).actions
    refused = KeyFindings(gaps(arrays=3), sample())
    assert not planned(desired(accepted="region:1"), unsharded(), found=refused).actions


def test_a_refused_key_costs_no_scan_at_every_look() -> None:
    poor = KeyFindings(gaps(), sample(distinct=3))
    first = planned(desired(), unsharded(), found=poor)
    soon = plan(desired(), unsharded(), first.status, scope(now=NOW + timedelta(minutes=1)))
    assert not soon.questions
    assert soon.verdict == first.verdict
    later = plan(desired(), unsharded(), first.status, scope(now=NOW + timedelta(minutes=11)))
    assert later.questions
    changed = first.status.model_copy(update={"observed_generation": 2})
    assert plan(desired(), unsharded(), changed, scope()).questions


def test_what_was_found_before_refuses_a_key_and_never_allows_one() -> None:
    """The collection may be another one by now, or have other documents."""
    first = planned(desired(), unsharded(indexes=(ID_INDEX,)))
    soon = scope(now=NOW + timedelta(minutes=1))
    still = plan(desired(), unsharded(indexes=(ID_INDEX,)), first.status, soon)
    assert not still.questions
    assert still.verdict == first.verdict
    then = plan(desired(), unsharded(), first.status, soon)
    assert then.questions
    assert not then.actions
    changed = KeyFindings(gaps(arrays=1), sample())
    assert not planned(desired(), unsharded(), first.status, found=changed, now=soon.now).actions


def test_what_is_found_has_room_in_status() -> None:
    long = tuple((f"{'x' * 240}{n}", 1) for n in range(32))
    found = replace(GOOD, gaps=gaps(missing=9_999, arrays=9_999), duplicates=DUPLICATES)
    made = planned(desired(long, unique=True), unsharded(indexes=()), found=found)
    assert made.status.preflight is not None
    Preflight.model_validate(made.status.preflight.model_dump())
