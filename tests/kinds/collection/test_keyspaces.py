"""Redis key spaces of a Collection: judged as values."""

from datetime import timedelta

import pytest
from collection_builder import NOW, desired

from lucid_storage.errors import Reason, StoreUnavailableError
from lucid_storage.kinds.collection.keyspaces import EnforceKeySpaces, effective, judge
from lucid_storage.models.collection import KeySpaceStatus
from lucid_storage.stores.redis.types import KeySpaceReport, RedisInfo

PATTERN = "lucid:session:{id}"
HERE = RedisInfo("new", (7, 0, 0), "master", cluster=False, keys=0, former="old")
REPORT = {"keyPattern": PATTERN, "ttlSeconds": 900}
ENFORCE = {**REPORT, "ttlPolicy": "Enforce"}


def report(keys: int = 0, without: int = 0, corrected: int = 0) -> dict[str, KeySpaceReport]:
    return {PATTERN: KeySpaceReport(PATTERN, keys, without, 0, 0, 0, corrected, complete=True)}


def test_before_the_first_scan_nothing_is_claimed() -> None:
    judged = judge(desired(cache=[REPORT]), [], None, None, HERE, NOW)
    assert judged.verdict is not None
    assert judged.verdict.reason is Reason.PROGRESSING


def test_after_a_restart_the_last_scan_still_counts() -> None:
    known = [KeySpaceStatus(key_pattern=PATTERN, keys=3, strays=0, scanned_at=NOW - timedelta(hours=1))]
    judged = judge(desired(cache=[REPORT]), known, None, None, HERE, NOW)
    assert judged.verdict is None
    assert judged.status == known


def test_report_counts_strays_and_touches_nothing() -> None:
    judged = judge(desired(cache=[REPORT]), [], report(10, 4), None, HERE, NOW)
    assert judged.verdict is None
    assert not judged.actions
    assert judged.status[0].strays == 4
    assert PATTERN in judged.message


def test_the_first_enforce_over_strays_needs_consent_by_the_key_pattern() -> None:
    refused = judge(desired(cache=[ENFORCE]), [], report(10, 4), None, HERE, NOW)
    assert refused.verdict is not None
    assert refused.verdict.reason is Reason.DATA_LOSS_REFUSED
    assert f"allowDataLoss: {PATTERN}" in refused.verdict.message
    assert not refused.actions
    agreed = judge(desired(cache=[ENFORCE], allowDataLoss=PATTERN), [], report(10, 4), None, HERE, NOW)
    assert isinstance(agreed.actions[0], EnforceKeySpaces)
    assert agreed.status[0].enforced
    assert agreed.loses, "backupBefore makes a backup before this"


def test_the_first_enforce_without_strays_needs_no_consent() -> None:
    judged = judge(desired(cache=[ENFORCE]), [], report(10, 0), None, HERE, NOW)
    assert isinstance(judged.actions[0], EnforceKeySpaces)
    assert not judged.loses


def test_once_enforced_later_strays_are_corrected_without_asking_again() -> None:
    known = [KeySpaceStatus(key_pattern=PATTERN, enforced=True, enforced_on=HERE.place, scanned_at=NOW)]
    judged = judge(desired(cache=[ENFORCE]), known, report(10, 4, 4), None, HERE, NOW)
    assert judged.verdict is None
    assert not judged.actions


def test_a_scan_sets_ttls_only_where_that_was_agreed_to() -> None:
    spaces = desired(cache=[ENFORCE]).cache
    assert not effective(spaces, [], HERE)[0].enforce
    assert effective(
        spaces, [KeySpaceStatus(key_pattern=PATTERN, enforced=True, enforced_on=HERE.place)], HERE
    )[0].enforce


def test_going_back_to_report_ends_enforcing() -> None:
    known = [KeySpaceStatus(key_pattern=PATTERN, enforced=True, enforced_on=HERE.place, scanned_at=NOW)]
    judged = judge(desired(cache=[REPORT]), known, report(), None, HERE, NOW)
    assert judged.status[0].enforced is None
    assert not effective(desired(cache=[REPORT]).cache, known, HERE)[0].enforce


def test_a_lost_redis_is_told_with_its_reason() -> None:
    judged = judge(
        desired(cache=[REPORT]), [], None, StoreUnavailableError("Redis does not answer."), HERE, NOW
    )
    assert judged.verdict is not None
    assert judged.verdict.reason is Reason.STORE_UNAVAILABLE
    assert not judged.verdict.stalled


def agreed(place: str | None) -> list[KeySpaceStatus]:
    return [KeySpaceStatus(key_pattern=PATTERN, enforced=True, enforced_on=place, scanned_at=NOW)]


@pytest.mark.parametrize("place", ["another/0", "new/3", "older/0", None])
def test_consent_for_one_redis_is_none_for_another(place: str | None) -> None:
    asked = desired(cache=[ENFORCE])
    assert not effective(asked.cache, agreed(place), HERE)[0].enforce
    waiting = judge(asked, agreed(place), None, None, HERE, NOW)
    assert waiting.verdict is not None
    assert waiting.verdict.reason is Reason.PROGRESSING, "its keys are counted first"
    refused = judge(asked, agreed(place), report(10, 4), None, HERE, NOW)
    assert refused.verdict is not None
    assert refused.verdict.reason is Reason.DATA_LOSS_REFUSED
    consent = judge(
        desired(cache=[ENFORCE], allowDataLoss=PATTERN), agreed(place), report(10, 4), None, HERE, NOW
    )
    assert consent.actions == (EnforceKeySpaces(asked.cache, "new/0"),)
    assert consent.status[0].enforced_on == "new/0"
    assert consent.loses


@pytest.mark.parametrize("place", ["new/0", "old/0"])
def test_consent_outlives_a_failover(place: str) -> None:
    judged = judge(desired(cache=[ENFORCE]), agreed(place), report(10, 4, 4), None, HERE, NOW)
    assert judged.verdict is None
    assert not judged.actions
    assert judged.status[0].enforced_on == "new/0", "the next failover forgets the id before this one"
