"""What a prune worker says fits the 4,096 bytes of a termination message, and the rest is said by the next one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from chain_builder import full, incremental, piece
from test_prune_worker import DAY, Bucket, ago, nightly

from lucid_storage.jobs.prune_results import MOST_LOST, MOST_REMOVED, MOST_RETAINED, fitted
from lucid_storage.jobs.reporting import TERMINATION_BYTES, packed
from lucid_storage.models.pruning import ChainReport, PruneResult, Retained, Span

MOMENT = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)
CHAIN = ChainReport(
    timeline=str(UUID(int=1)),
    based=True,
    recoverable=tuple(Span(first=MOMENT, last=MOMENT) for _ in range(8)),
    verified_to=MOMENT,
    backups=10_000,
    slices=100_000,
    slice_bytes=10**13,
    stored_bytes=10**14,
    last_slice_at=MOMENT.replace(microsecond=123_456),
    last_slice_to=MOMENT,
    unreadable=100,
)


def ids(count: int, family: int) -> tuple[str, ...]:
    return tuple(str(UUID(int=(family << 64) + n)) for n in range(count))


def longest(removed: int = MOST_REMOVED) -> PruneResult:
    because = f"The backup {'n' * 253} builds on it."
    return PruneResult(
        run="a" * 12,
        ok=True,
        removed=ids(removed, 1),
        retained=tuple(Retained(id=key, because=because) for key in ids(MOST_RETAINED, 2)),
        unrestorable=ids(MOST_LOST, 3),
        restorable_again=ids(MOST_LOST, 4),
        chain=CHAIN,
    )


def test_what_is_removed_is_all_named_and_the_next_worker_says_the_rest() -> None:
    result = longest()
    with pytest.raises(ValueError, match="does not fit"):
        packed(result)
    told = fitted(result)
    assert len(packed(told).encode()) <= TERMINATION_BYTES
    assert (told.removed, told.chain, told.more) == (result.removed, CHAIN, True)
    assert told.unrestorable == result.unrestorable[-len(told.unrestorable) :], "the newest"


def test_it_is_all_said_where_nothing_is_removed_so_that_there_is_an_end() -> None:
    result = longest(removed=0)
    assert fitted(result) == result


def test_a_sweep_with_much_to_say_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Bucket(tmp_path)
    bases, points, olds = ids(30, 5), ids(30, 6), ids(30, 7)
    for n, (base, point, old) in enumerate(zip(bases, points, olds, strict=True)):
        start = n * DAY
        bucket.add(
            full(old, start, completed_at=ago(50)),
            full(base, start + 60, completed_at=ago(40)),
            piece(start + 60, start + 120, completed_at=ago(1)),
            incremental(point, start + 120, base, completed_at=ago(1)),
        )
    bucket.add(nightly(0))
    monkeypatch.setattr("lucid_storage.jobs.prune_results.MOST_RETAINED", 30)
    result = bucket.prune(known=(*bases, *points, *olds))
    assert len(packed(result).encode()) <= TERMINATION_BYTES
    assert (result.ok, result.more, set(result.removed)) == (True, True, set(olds))
