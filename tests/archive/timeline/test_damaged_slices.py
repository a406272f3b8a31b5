"""A slice that a check found damaged is a hole: nothing counts on it, and its data stay all the same."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from chain_builder import CLUSTER, START, full, incremental, moment, piece, point

from lucid_storage.archive.continuity import rpo_seconds, windows
from lucid_storage.archive.decision import OplogView, Request
from lucid_storage.archive.layout import ChainFolder
from lucid_storage.archive.manifest import BackupKind, Proof, ProofLevel, Selection
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.records import Listing
from lucid_storage.archive.retention import Outcome, Question, judge
from lucid_storage.archive.timeline import decide
from lucid_storage.errors import Reason
from lucid_storage.jobs.slice_proving import behind

FOLDER = ChainFolder("r", CLUSTER, "ns", "main")


def damaged(found: Recorded) -> Recorded:
    proof = Proof(
        id=found.id,
        level=ProofLevel.CHECKSUM,
        at=START,
        seconds=0,
        passed=False,
        message="Its checksum is wrong.",
    )
    return replace(found, proof=proof)


def seconds_of(records: list[Recorded]) -> list[tuple[int, int]]:
    base = int(START.timestamp())
    return [(w.first - base, w.last - base) for w in windows(records)]


def test_what_can_be_restored_ends_before_it() -> None:
    whole = [full("f1", 10), piece(10, 30), piece(30, 60), piece(60, 90), full("f2", 70)]
    assert seconds_of(whole) == [(10, 89)]
    holed = [whole[0], whole[1], damaged(whole[2]), *whole[3:]]
    assert seconds_of(holed) == [(10, 29), (70, 89)]
    assert rpo_seconds(holed[:3], moment(100)) == 71


def test_a_slicer_begins_anew_behind_it_and_does_not_write_over_it() -> None:
    last = damaged(piece(30, 60))
    records = [full("f1", 10), piece(10, 30), last]
    listing = Listing(tuple(records))
    request = Request(
        kind=BackupKind.SLICE,
        cluster=CLUSTER,
        namespace="ns",
        chain="main",
        selection=Selection(engines=("mongodb",)),
        new_timeline="t2",
        identity="rs-1",
        scheduled=True,
        taken=listing.taken(FOLDER),
    )
    decision = decide(request, records, OplogView(point(95), frozenset({point(30), point(60)})))
    assert getattr(decision, "because", None) is Reason.OPLOG_GAP
    assert getattr(decision, "timeline", None) == "t2"


def test_it_stays_for_whoever_needs_it() -> None:
    records = [full("f1", 10), damaged(piece(10, 30)), incremental("i1", 30, "f1")]
    now = datetime.now(UTC)
    verdicts = judge(records, Question(now=now, own_clusters=frozenset({CLUSTER}), held=frozenset({"i1"})))
    assert {v.record.id: v.outcome for v in verdicts}["s10-30"] is Outcome.KEEP
    assert now - START > timedelta(days=30), "no rule keeps them"


def test_a_full_looks_at_the_slices_since_the_good_full_before_it() -> None:
    pieces = [piece(5, 12), piece(12, 30), piece(30, 60), piece(60, 90)]
    bad = full("bad", 40, passed=False)
    new = full("f2", 55)
    assert [p.id for p in behind([full("f1", 10), bad, *pieces, new], new.manifest)] == [
        "s30-60",
        "s12-30",
        "s5-12",
    ]
    assert behind([*pieces, new], new.manifest) == [], "nothing leads into them"
