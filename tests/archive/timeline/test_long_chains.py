"""A year of slices with many fulls is gone over once, and leads as far as when each full goes over it alone."""

from __future__ import annotations

import random

import pytest
from chain_builder import differential, found_damaged, full, incremental, piece
from chain_histories import DAY, chains, question
from hypothesis import given
from hypothesis import strategies as st

from lucid_storage.archive import continuity
from lucid_storage.archive.continuity import Track, begin, continues, end, restorable, spans
from lucid_storage.archive.manifest import BackupKind, OplogPoint, RetentionRules
from lucid_storage.archive.recorded import Recorded, good_fulls
from lucid_storage.archive.retention import judge


def alone(start: OplogPoint, pieces: list[Recorded]) -> OplogPoint:
    """How far one goes over all pieces from their beginning."""
    at = best = start
    left = list(pieces)
    while True:
        while left and begin(left[0].manifest).optime <= at.optime:
            one = left.pop(0)
            if continues(one, at) and end(one.manifest).optime > best.optime:
                best = end(one.manifest)
        if best.optime <= at.optime:
            return at
        at = best


@given(chains(), st.randoms())
def test_one_full_leads_as_far_as_without_the_others(records: list[Recorded], order: random.Random) -> None:
    for timeline in {r.manifest.timeline for r in records}:
        mine = [r for r in records if r.manifest.timeline == timeline]
        fulls = good_fulls(mine)
        order.shuffle(fulls)
        for pieces in (spans(mine), [p for p in spans(mine) if p.kind is BackupKind.SLICE]):
            track = Track(pieces)
            for one in fulls:
                start = end(one.manifest)
                assert track.reach(start) == alone(start, pieces)


def busy(days: int, *, holes: bool) -> list[Recorded]:
    """A slice each ten minutes, an incremental each hour and a full each day, of which each third is damaged."""
    made = [piece(t, t + 600) for t in range(0, days * DAY, 600)]
    if holes:
        made[::100] = [found_damaged(one) for one in made[::100]]
    for day in range(days):
        made.append(full(f"f{day}", day * DAY + 7, passed=day % 3 != 2))
        made += [incremental(f"i{day}-{h}", day * DAY + h * 3600 + 7, f"f{day}") for h in range(1, 24)]
        made.append(differential(f"d{day}", day * DAY + 7, day * DAY + 9 * 3600, f"f{day}"))
    return made


@pytest.mark.parametrize("holes", [False, True])
def test_retention_of_a_long_chain_looks_at_each_slice_a_few_times(
    monkeypatch: pytest.MonkeyPatch, holes: bool
) -> None:
    looked = []

    def counted(span: Recorded, at: OplogPoint) -> bool:
        looked.append(span.id)
        return continues(span, at)

    monkeypatch.setattr(continuity, "continues", counted)
    records = busy(10, holes=holes)
    judge(records, question(11, RetentionRules(days=9)))
    assert len(looked) < 4 * len(records)
    looked.clear()
    restorable(records)
    assert len(looked) < 2 * len(records)
