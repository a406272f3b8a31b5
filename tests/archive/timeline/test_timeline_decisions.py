"""What a new backup builds on (rule 1.1, 1.3, 1.5, 1.6, 1.7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from chain_builder import differential, full, incremental, piece, point

from lucid_storage.archive.decision import Decision, OplogView, Refusal, Request
from lucid_storage.archive.manifest import BackupKind, Closing, OplogPoint, Selection
from lucid_storage.archive.recorded import Recorded, Trust
from lucid_storage.archive.timeline import anchors, decide
from lucid_storage.errors import Reason

MONGODB = Selection(engines=("mongodb",))
INCREMENTAL, DIFFERENTIAL, FULL, SLICE = (
    BackupKind.INCREMENTAL,
    BackupKind.DIFFERENTIAL,
    BackupKind.FULL,
    BackupKind.SLICE,
)


def request(kind: BackupKind, **more: object) -> Request:
    base = Request(
        kind=kind,
        cluster="cluster-a",
        namespace="ns",
        chain="main",
        selection=MONGODB,
        new_timeline="new",
        identity="rs-1",
    )
    return replace(base, **more)  # type: ignore[arg-type]


def view(records: Sequence[Recorded], first: int, last: int) -> OplogView:
    """An oplog from `first` to `last` on the history that the builder makes."""
    start = point(first).optime
    return OplogView(point(last), frozenset(p for p in anchors(records) if start <= p.optime and _usual(p)))


def _usual(p: OplogPoint) -> bool:
    second = p.optime.seconds - point(0).optime.seconds
    return point(second, p.optime.counter) == p


def decided(request: Request, records: Sequence[Recorded], oplog: OplogView | None) -> Decision:
    found = decide(request, records, oplog)
    assert isinstance(found, Decision), found
    return found


class TestASliceThatCannotBeBelieved:
    """Its name is taken for ever, so the line cannot go on there (rule 1.8)."""

    records = (full("f", to=10), piece(10, 20))
    taken = frozenset({("t1", point(20).optime)})

    def test_a_slicing_worker_begins_a_new_timeline(self) -> None:
        asked = request(SLICE, scheduled=True, taken=self.taken)
        found = decided(asked, self.records, view(self.records, 0, 30))
        assert (found.timeline, found.begins, found.prev) == ("new", True, point(30))
        assert "cannot be read" in found.note

    @pytest.mark.parametrize("kind", [SLICE, INCREMENTAL])
    def test_by_hand_it_is_refused(self, kind: BackupKind) -> None:
        said = refused(request(kind, taken=self.taken), self.records, view(self.records, 0, 30))
        assert said.reason is Reason.OPLOG_GAP
        assert "full backup" in said.message

    def test_a_full_begins_a_new_timeline(self) -> None:
        found = decided(request(FULL, taken=self.taken), self.records, view(self.records, 0, 30))
        assert (found.timeline, found.begins) == ("new", True)

    def test_a_newer_full_is_gone_on_from(self) -> None:
        records = (*self.records, full("g", to=25))
        found = decided(request(SLICE, taken=self.taken), records, view(records, 0, 30))
        assert (found.timeline, found.prev) == ("t1", point(25))


def refused(request: Request, records: Sequence[Recorded], oplog: OplogView | None) -> Refusal:
    found = decide(request, records, oplog)
    assert isinstance(found, Refusal), found
    assert found.message.endswith("."), "a sentence"
    return found


def test_the_first_full_begins_a_timeline() -> None:
    found = decided(request(FULL), [], view([], 0, 10))
    assert (found.timeline, found.begins, found.base, found.parent) == ("new", True, None, None)


def test_a_full_joins_the_timeline_that_the_slicer_began_before_it() -> None:
    records = [piece(0, 60)]
    found = decided(request(FULL), records, view(records, 0, 70))
    assert (found.timeline, found.begins) == ("t1", False)


def test_a_full_that_joins_slices_names_where_a_restore_may_have_ended_them() -> None:
    records = [full("f1", 10), piece(10, 60)]
    assert decided(request(FULL), records, view(records, 0, 90)).prev == point(60)
    alone = [full("f1", 10)]
    assert decided(request(FULL), alone, view(alone, 0, 90)).prev is None, "nothing goes on from there"


def test_an_incremental_follows_the_newest_slice_and_names_base_and_parent() -> None:
    records = [full("f1", 10), piece(10, 60), incremental("i1", 60, "f1")]
    found = decided(request(INCREMENTAL), records, view(records, 0, 90))
    assert (found.kind, found.timeline, found.base, found.parent) == (INCREMENTAL, "t1", "f1", "i1")
    assert found.prev == point(60)


def test_an_incremental_right_after_a_full_begins_at_its_end() -> None:
    records = [full("f1", 10)]
    assert decided(request(INCREMENTAL), records, view(records, 0, 90)).prev == point(10)


def test_a_full_in_the_middle_of_slices_becomes_the_base_and_cuts_nothing() -> None:
    records = [full("f1", 10), piece(10, 60), full("f2", 45), piece(60, 90)]
    found = decided(request(INCREMENTAL), records, view(records, 0, 100))
    assert (found.base, found.prev) == ("f2", point(90))


def test_no_base_by_hand_is_refused_and_on_a_schedule_becomes_a_full() -> None:
    assert refused(request(INCREMENTAL), [], view([], 0, 10)).reason is Reason.NO_BASE
    found = decided(request(INCREMENTAL, scheduled=True), [], view([], 0, 10))
    assert (found.kind, found.timeline, found.begins, found.because) == (FULL, "new", True, Reason.NO_BASE)


@pytest.mark.parametrize("kind", [INCREMENTAL, DIFFERENTIAL])
def test_a_full_whose_check_failed_is_never_a_base(kind: BackupKind) -> None:
    records = [full("f1", 10, passed=False)]
    assert refused(request(kind), records, view(records, 0, 20)).reason is Reason.NO_BASE


def test_a_full_without_a_proof_is_no_base() -> None:
    records = [full("f1", 10, passed=None)]
    assert refused(request(INCREMENTAL), records, view(records, 0, 20)).reason is Reason.NO_BASE


def test_a_scheduled_incremental_without_a_full_joins_the_slices_with_a_full() -> None:
    records = [piece(0, 60)]
    found = decided(request(INCREMENTAL, scheduled=True), records, view(records, 0, 70))
    assert (found.kind, found.timeline, found.begins) == (FULL, "t1", False)


@pytest.mark.parametrize("kind", [INCREMENTAL, DIFFERENTIAL])
def test_an_oplog_that_rolled_over_is_a_gap(kind: BackupKind) -> None:
    records = [full("f1", 10), piece(10, 60)]
    assert refused(request(kind), records, view(records, 61, 90)).reason is Reason.OPLOG_GAP
    found = decided(request(kind, scheduled=True), records, view(records, 61, 90))
    assert (found.kind, found.timeline, found.begins, found.because) == (FULL, "new", True, Reason.OPLOG_GAP)


def test_the_entry_must_be_equal_and_not_only_of_the_same_time() -> None:
    """After a rollback the oplog may hold another entry at the same optime (1.3)."""
    records = [full("f1", 10), piece(10, 60)]
    other = OplogView(point(90), frozenset({point(60, history="other"), point(10, history="other")}))
    assert refused(request(INCREMENTAL), records, other).reason is Reason.OPLOG_GAP


def test_a_full_after_a_gap_begins_a_timeline() -> None:
    records = [full("f1", 10), piece(10, 60)]
    found = decided(request(FULL), records, view(records, 61, 90))
    assert (found.timeline, found.begins, found.because) == ("new", True, Reason.OPLOG_GAP)


def test_fulls_without_slices_share_a_timeline_whatever_the_oplog_holds() -> None:
    records = [full("f1", 10)]
    found = decided(request(FULL), records, view(records, 61, 90))
    assert (found.timeline, found.begins, found.parent) == ("t1", False, "f1")


def test_behind_a_gap_an_incremental_goes_on_from_a_newer_full_and_not_from_an_older() -> None:
    records = [full("f1", 10), piece(10, 60), full("f2", 80)]
    found = decided(request(INCREMENTAL), records, view(records, 70, 90))
    assert (found.base, found.prev) == ("f2", point(80))
    assert refused(request(INCREMENTAL), records, view(records, 85, 90)).reason is Reason.OPLOG_GAP


@pytest.mark.parametrize("closing", list(Closing))
def test_a_closed_timeline_is_no_base(closing: Closing) -> None:
    records = [full("f1", 10), piece(10, 60, closing=closing)]
    oplog = view(records, 0, 90)
    assert refused(request(INCREMENTAL), records, oplog).reason is Reason.NO_BASE
    assert decided(request(INCREMENTAL, scheduled=True), records, oplog).timeline == "new"
    assert decided(request(FULL), records, oplog).timeline == "new"
    found = decided(request(SLICE, scheduled=True), records, oplog)
    assert (found.timeline, found.prev) == ("new", point(90))


def test_a_differential_takes_the_slices_since_its_base_and_then_the_oplog() -> None:
    records = [full("f1", 20), piece(0, 30), piece(30, 60), differential("d1", 20, 50, "f1")]
    found = decided(request(DIFFERENTIAL), records, view(records, 40, 90))
    assert (found.base, found.parent, found.prev) == ("f1", "d1", point(20))
    assert (found.copied, found.tail) == (("s0-30", "s30-60"), point(60))


def test_a_differential_without_slices_needs_an_oplog_back_to_its_base() -> None:
    records = [full("f1", 20)]
    found = decided(request(DIFFERENTIAL), records, view(records, 0, 90))
    assert (found.copied, found.tail) == ((), point(20))
    assert refused(request(DIFFERENTIAL), records, view(records, 21, 90)).reason is Reason.OPLOG_GAP


def test_a_standalone_server_has_no_oplog() -> None:
    for kind in (INCREMENTAL, DIFFERENTIAL, SLICE):
        assert refused(request(kind, scheduled=True), [full("f1", 1)], None).reason is Reason.NO_OPLOG


@pytest.mark.parametrize(
    "change",
    [
        {"identity": "rs-2"},
        {"selection": Selection(engines=("mongodb",), databases=("shop",))},
        {"selection": Selection(engines=("redis",)), "identity": None},
    ],
    ids=["server", "selection", "engine"],
)
@pytest.mark.parametrize("kind", [FULL, INCREMENTAL, DIFFERENTIAL])
def test_another_server_or_selection_is_a_mismatch_by_hand_and_a_new_timeline_on_a_schedule(
    kind: BackupKind, change: dict[str, object]
) -> None:
    records = [full("f1", 10)]
    oplog = view(records, 0, 90)
    assert refused(request(kind, **change), records, oplog).reason is Reason.CHAIN_MISMATCH
    found = decided(request(kind, scheduled=True, **change), records, oplog)
    assert (found.kind, found.timeline, found.because) == (FULL, "new", Reason.CHAIN_MISMATCH)


def test_the_order_of_a_selection_and_further_engines_are_no_mismatch() -> None:
    records = [full("f1", 10, databases=("a", "b"), engines=("mongodb", "redis"))]
    asked = Selection(engines=("mongodb",), databases=("b", "a"))
    assert decided(request(INCREMENTAL, selection=asked), records, view(records, 0, 20)).base == "f1"


def test_backups_without_mongodb_share_a_timeline() -> None:
    records = [full("r1", 0, engines=("redis",))]
    records = [
        replace(r, manifest=r.manifest.model_copy(update={"engines": ()})) for r in records
    ]  # no optimes at all
    found = decided(request(FULL, selection=Selection(engines=("redis",)), identity=None), records, None)
    assert (found.timeline, found.begins) == ("t1", False)


def test_one_key_id_never_stands_for_two_keys() -> None:
    records = [full("f1", 10, key_id="k1", fingerprint="aaaa", trust=Trust.KEY_MISSING)]
    asked = request(FULL, scheduled=True, key_id="k1", fingerprints={"k1": "bbbb"})
    assert refused(asked, records, view(records, 0, 20)).reason is Reason.KEY_MISSING
    rotated = request(FULL, key_id="k2", fingerprints={"k1": "aaaa", "k2": "bbbb"})
    assert decided(rotated, [replace(records[0], trust=Trust.AUTHENTICATED)], view(records, 0, 20))


def test_rotation_of_the_key_breaks_no_timeline() -> None:
    records = [full("f1", 10, key_id="k1", fingerprint="aaaa")]
    asked = request(INCREMENTAL, key_id="k2", fingerprints={"k1": "aaaa", "k2": "bbbb"})
    assert decided(asked, records, view(records, 0, 20)).timeline == "t1"


def test_a_base_whose_key_is_gone_is_named_and_a_schedule_begins_anew() -> None:
    records = [full("f1", 10, key_id="k1", fingerprint="aaaa", trust=Trust.KEY_MISSING)]
    found = refused(request(INCREMENTAL), records, view(records, 0, 20))
    assert found.reason is Reason.KEY_MISSING
    assert "k1" in found.message
    assert decided(request(INCREMENTAL, scheduled=True), records, view(records, 0, 20)).kind is FULL


def test_the_slicer_begins_before_the_first_full() -> None:
    found = decided(request(SLICE, scheduled=True), [], view([], 0, 30))
    assert (found.timeline, found.begins, found.prev) == ("new", True, point(30))


def test_the_slicer_goes_on_where_it_ended() -> None:
    records = [piece(0, 30), full("f1", 20), piece(30, 60)]
    found = decided(request(SLICE, scheduled=True), records, view(records, 50, 90))
    assert (found.timeline, found.begins, found.prev) == ("t1", False, point(60))


def test_the_slicer_that_lost_the_oplog_begins_a_timeline_and_claims_nothing_between() -> None:
    records = [piece(0, 30), full("f1", 20), piece(30, 60)]
    found = decided(request(SLICE, scheduled=True), records, view(records, 61, 90))
    assert (found.timeline, found.prev, found.because) == ("new", point(90), Reason.OPLOG_GAP)


def test_a_backup_that_cannot_be_authenticated_is_nothing_to_build_on() -> None:
    records = [full("f1", 10, trust=Trust.BROKEN)]
    assert refused(request(INCREMENTAL), records, view(records, 0, 20)).reason is Reason.NO_BASE


def test_a_slicer_with_another_selection_begins_a_timeline_where_the_oplog_stands() -> None:
    records = [piece(0, 30), full("f1", 20)]
    asked = request(SLICE, scheduled=True, selection=Selection(engines=("mongodb",), databases=("shop",)))
    found = decided(asked, records, view(records, 0, 90))
    assert (found.timeline, found.prev, found.because) == ("new", point(90), Reason.CHAIN_MISMATCH)
