"""Which backups a prune worker takes for deleted: retentionDays can be raised after a first attempt (rule 1.9)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chain_builder import incremental, piece
from test_prune_worker import DAY, FOLDER, Bucket, ago, by_hand, nightly

from lucid_storage.archive.layout import MARK
from lucid_storage.models.pruning import PruneResult

OTHERS: dict[str, dict[str, Any]] = {
    "the sweep of a schedule": {},
    "the end of another Backup's days": {"sweep": False, "rules": {}, "remove": ("i40",), "due": ago(10)},
    "the deletion of another Backup": {"sweep": False, "rules": {}, "remove": ("i40",)},
}


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    """The days of f50 are over, of i40 that builds on it too, and there is a newer full."""
    made = Bucket(tmp_path)
    made.add(
        by_hand(50),
        piece(50 * DAY, 60 * DAY, completed_at=ago(40), schedule=None),
        incremental("i40", 60 * DAY, "f50", completed_at=ago(40), schedule=None, retention_days=30),
        by_hand(1),
    )
    return made


def expired(bucket: Bucket) -> PruneResult:
    """What comes because the days of f50 are over."""
    return bucket.prune(sweep=False, rules={}, remove=("f50",), due=ago(20), known=("f50",))


def marks(bucket: Bucket) -> set[str]:
    return {path.split("/")[-2] for path in bucket.files() if path.endswith(MARK)}


def mark(bucket: Bucket, backup: str) -> None:
    bucket.store.put(f"{FOLDER.backups}/{backup}/{MARK}", b"{}")


@pytest.mark.parametrize("other", OTHERS)
def test_an_attempt_that_came_because_days_were_over_binds_no_later_one(bucket: Bucket, other: str) -> None:
    """Somebody raises its retentionDays to 365 then: its object says Completed, Verified, expires next year."""
    held = expired(bucket)
    assert [r.because for r in held.retained] == ["The backup i40 builds on it."]
    assert held.expiry
    assert marks(bucket) == set()
    bucket.prune(**{"by_hand": ("f50",), **OTHERS[other]})
    assert "f50" in bucket.there()


@pytest.mark.parametrize("other", OTHERS)
def test_a_mark_that_lies_there_is_not_believed_of_what_an_object_claims(bucket: Bucket, other: str) -> None:
    mark(bucket, "f50")
    bucket.prune(**{"by_hand": ("f50",), **OTHERS[other]})
    assert "f50" in bucket.there()


def test_of_what_a_schedule_made_and_its_object_claims_the_rules_decide(bucket: Bucket) -> None:
    bucket.add(nightly(5), nightly(2))
    mark(bucket, "f5")
    bucket.prune(rules={"nightly": {"days": 10}}, known=("f5", "f2"))
    assert "f5" in bucket.there()
    bucket.prune(rules={"nightly": {"days": 10}}, known=("f2",))
    assert "f5" not in bucket.there()


@pytest.mark.parametrize("other", OTHERS)
def test_a_mark_is_believed_when_no_object_is_there_any_more(bucket: Bucket, other: str) -> None:
    held = bucket.prune(sweep=False, rules={}, remove=("f50",), known=("f50",))
    assert [r.id for r in held.retained] == ["f50"]
    assert not held.expiry
    assert marks(bucket) == {"f50"}
    bucket.prune(**OTHERS[other])
    assert bucket.there() == {"f1"}


def test_an_attempt_because_days_are_over_takes_an_earlier_mark_of_its_own_away(bucket: Bucket) -> None:
    mark(bucket, "f50")
    expired(bucket)
    assert marks(bucket) == set()
    assert "f50" in bucket.there()


def test_what_nothing_needs_any_more_goes_with_the_next_attempt_of_its_own(bucket: Bucket) -> None:
    expired(bucket)
    bucket.prune(sweep=False, rules={}, remove=("i40",), due=ago(10), by_hand=("f50",))
    assert "i40" not in bucket.there()
    assert expired(bucket).removed == ("f50",)
    assert bucket.there() == {"f1"}, "with its slices"
