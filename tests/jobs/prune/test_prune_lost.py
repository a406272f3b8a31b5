"""A sweep names the Backups that cannot be restored any more, and those that can again (rule 1.11)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from chain_builder import full, incremental, piece
from test_prune_worker import FOLDER, Bucket, ago

from lucid_storage.archive.chain_report import report, unrestorable
from lucid_storage.archive.manifest import Proof, ProofLevel
from lucid_storage.archive.recorded import Recorded, Trust
from lucid_storage.archive.records import proof_path, write_proof
from lucid_storage.jobs.reporting import TERMINATION_BYTES, packed

SLICES = tuple(piece(n * 600, (n + 1) * 600, completed_at=ago(1)) for n in range(40))
BASE = full("f0", 60, completed_at=ago(1))


def judged(found: Recorded, *, passed: bool) -> Recorded:
    proof = Proof(id=found.id, level=ProofLevel.CHECKSUM, at=ago(0), seconds=0, passed=passed)
    return replace(found, proof=proof)


def at_end(number: int, **more: object) -> Recorded:
    """The incremental that stands on the slices up to that one."""
    name = f"{number:08d}-0000-4000-8000-000000000000"
    return incremental(name, (number + 1) * 600, "f0", completed_at=ago(1), **more)


@pytest.fixture
def chain(tmp_path: Path) -> Bucket:
    bucket = Bucket(tmp_path)
    bucket.add(BASE, *SLICES, *(at_end(n) for n in range(40)))
    return bucket


def damage(chain: Bucket, number: int, *, passed: bool = False) -> None:
    found = judged(SLICES[number], passed=passed)
    assert found.proof is not None
    write_proof(chain.store, FOLDER, found.proof, None, proof_path(FOLDER, found.manifest))


def test_what_stands_on_a_damaged_slice_is_named_until_its_object_tells(chain: Bucket) -> None:
    known = ("f0", *(at_end(n).id for n in range(30)))
    by_hand = tuple(at_end(n).id for n in range(30, 40))
    whole = chain.prune(known=known, by_hand=by_hand)
    assert (whole.unrestorable, whole.restorable_again, whole.more) == ((), (), False)
    damage(chain, 20)
    told: tuple[str, ...] = ()
    for _ in range(2):
        found = chain.prune(known=known, by_hand=by_hand, unrestorable=told)
        assert len(packed(found).encode()) <= TERMINATION_BYTES
        told += found.unrestorable
    assert not found.more
    assert set(told) == {at_end(n).id for n in range(20, 40)}
    damage(chain, 20, passed=True)
    again = chain.prune(known=known, by_hand=by_hand, unrestorable=told)
    assert again.more
    assert again.unrestorable == ()
    assert set(again.restorable_again) < set(told)


def test_the_last_slice_of_the_timeline_is_told_though_it_is_damaged(chain: Bucket) -> None:
    damage(chain, 39)
    told = chain.prune().chain
    assert told is not None
    assert told.last_slice_to is not None
    assert (told.last_slice_to - told.recoverable[-1].last).total_seconds() == 601


def test_those_that_nobody_proved_or_that_need_a_missing_key_are_not_called_lost() -> None:
    holed = [BASE, SLICES[0], judged(SLICES[1], passed=False), at_end(0), at_end(1)]
    assert [r.id for r in unrestorable(holed)] == [at_end(1).id]
    assert unrestorable([*holed[:-1], at_end(1, passed=False)]) == []
    locked = replace(SLICES[0], trust=Trust.KEY_MISSING)
    assert unrestorable([BASE, locked, SLICES[1], at_end(1)]) == []
    torn = [BASE, SLICES[0], replace(SLICES[1], trust=Trust.BROKEN)]
    assert report(torn).last_slice_to == report([BASE, *SLICES[:2]]).last_slice_to
