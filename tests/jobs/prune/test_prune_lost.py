"""A sweep names the Backups that cannot be restored any more, and those that can again (rule 1.11)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chain_builder import full, incremental, piece, record, unproved
from test_prune_worker import FOLDER, Bucket, ago

from lucid_storage.archive.chain_report import report, unrestorable
from lucid_storage.archive.manifest import BackupKind, Proof, ProofLevel
from lucid_storage.archive.recorded import Recorded, Trust
from lucid_storage.archive.records import list_chain, proof_path, write_proof
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


def test_only_what_can_be_restored_now_is_called_restorable_again(tmp_path: Path) -> None:
    chain = Bucket(tmp_path)
    chain.add(BASE, *SLICES[:3], *(at_end(n) for n in range(3)))
    known = ("f0", *(at_end(n).id for n in range(3)))
    damage(chain, 1)
    told = chain.prune(known=known).unrestorable
    assert set(told) == {at_end(1).id, at_end(2).id}
    # A check of one of them writes a failed proof of its own; then the slice is put back.
    failed = judged(at_end(1), passed=False).proof
    assert failed is not None
    write_proof(chain.store, FOLDER, failed, None)
    assert chain.prune(known=known, unrestorable=told).restorable_again == ()
    damage(chain, 1, passed=True)
    assert chain.prune(known=known, unrestorable=told).restorable_again == (at_end(2).id,)


@pytest.mark.parametrize("locked", ["a slice", "itself"])
def test_nothing_is_called_restorable_again_because_a_key_is_away(
    tmp_path: Path, locked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows then (rule 1.1), and what its object tells stays."""
    chain, lost = Bucket(tmp_path), at_end(1)
    rotated = {"a slice": SLICES[0].id, "itself": lost.id}[locked]
    chain.add(BASE, *SLICES[:2], lost)
    damage(chain, 1)

    def without_key(*given: Any) -> Any:
        found = list_chain(*given)
        records = (replace(r, trust=Trust.KEY_MISSING) if r.id == rotated else r for r in found.records)
        return replace(found, records=tuple(records))

    monkeypatch.setattr("lucid_storage.jobs.prune_chain.list_chain", without_key)
    found = chain.prune(known=("f0", lost.id), unrestorable=(lost.id,))
    assert (found.unrestorable, found.restorable_again) == ((), ())


def test_only_a_sweep_names_them_and_none_whose_object_claims_nothing(chain: Bucket) -> None:
    known = tuple(at_end(n).id for n in range(20))
    damage(chain, 0)
    silent = chain.prune(known=known, silent=known)
    assert (silent.unrestorable, silent.more) == ((), False)
    own = chain.prune(sweep=False, rules={}, remove=("f0",), by_hand=known)
    assert (own.unrestorable, own.more) == ((), False)


def test_the_last_slice_of_the_timeline_is_told_though_it_is_damaged(chain: Bucket) -> None:
    damage(chain, 39)
    told = chain.prune().chain
    assert told is not None
    assert told.last_slice_to is not None
    assert (told.last_slice_to - told.recoverable[-1].last).total_seconds() == 601


def test_what_its_own_check_found_damaged_is_named_too() -> None:
    """By `lucid-storage verify`, long after its object said Verified: a full, and an incremental of good slices."""
    held = [judged(BASE, passed=False), SLICES[0], at_end(0)]
    assert [r.id for r in unrestorable(held)] == ["f0", at_end(0).id]
    assert [r.id for r in unrestorable([BASE, SLICES[0], at_end(0, passed=False)])] == [at_end(0).id]
    redis = record(BackupKind.FULL, "r0", to=None, engines=("redis",), passed=False)
    assert unrestorable([redis]) == [redis]


def test_those_that_nobody_proved_or_that_need_a_missing_key_are_not_called_lost() -> None:
    holed = [BASE, SLICES[0], judged(SLICES[1], passed=False), at_end(0), at_end(1)]
    assert [r.id for r in unrestorable(holed)] == [at_end(1).id]
    assert unrestorable([*holed[:-1], unproved(at_end(1))]) == []
    assert unrestorable([replace(judged(BASE, passed=False), trust=Trust.KEY_MISSING)]) == []
    locked = replace(SLICES[0], trust=Trust.KEY_MISSING)
    assert unrestorable([BASE, locked, SLICES[1], at_end(1)]) == []
    torn = [BASE, SLICES[0], replace(SLICES[1], trust=Trust.BROKEN)]
    assert report(torn).last_slice_to == report([BASE, *SLICES[:2]]).last_slice_to
