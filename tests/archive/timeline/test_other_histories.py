"""What ended at an entry that the oplog never held is of another history, and nothing is joined across it (rule 1.3).

A server is put back to a snapshot of its volume, a forced reconfiguration loses what a majority had, or a cloned
cluster writes into the same chain.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from chain_builder import START, differential, full, incremental, piece, point, record, unproved
from test_timeline_decisions import (
    DIFFERENTIAL,
    FULL,
    INCREMENTAL,
    SLICE,
    decided,
    refused,
    request,
    view,
)

from lucid_storage.archive.continuity import restorable, windows
from lucid_storage.archive.decision import OplogView
from lucid_storage.archive.manifest import BackupKind, Optime
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.timeline import anchors
from lucid_storage.errors import Reason

LOST = {
    "a full": [full("f1", 10), full("f2", 60)],
    "a full behind slices": [full("f1", 10), piece(10, 40), full("f2", 60)],
    "a full that is still checked": [full("f1", 10), piece(10, 40), unproved(full("f2", 60))],
    "a differential": [full("f1", 10), piece(10, 40), differential("d1", 10, 60, "f1")],
    "an incremental without its slice": [full("f1", 10), piece(10, 40), incremental("i1", 60, "f1")],
    "several": [full("f1", 10), full("f2", 55), full("f3", 60)],
}
"""Chains of which the end was made after the 50th second."""


def put_back(records: Sequence[Recorded], to: int, last: int) -> OplogView:
    """The server was put back to a moment and went on: of what it wrote after that nothing is there."""
    kept = frozenset(p for p in anchors(records) if p.optime <= point(to).optime)
    return OplogView(point(last, history="b"), kept)


@pytest.mark.parametrize("last", [52, 90], ids=["not as late yet", "later"])
@pytest.mark.parametrize("kind", [INCREMENTAL, SLICE, DIFFERENTIAL])
@pytest.mark.parametrize("what", LOST)
def test_nothing_goes_on_below_a_backup_of_a_history_that_was_taken_back(
    what: str, kind: BackupKind, last: int
) -> None:
    records = LOST[what]
    oplog = put_back(records, 50, last)
    found = decided(request(kind, scheduled=True), records, oplog)
    assert (found.timeline, found.begins, found.because) == ("new", True, Reason.OPLOG_GAP)
    said = refused(request(kind), records, oplog)
    assert said.reason is Reason.OPLOG_GAP
    assert "put back" in said.message
    assert "Make a full backup" in said.message


def test_the_message_names_the_backup() -> None:
    records = LOST["several"]
    assert "The backup f3 " in refused(request(INCREMENTAL), records, put_back(records, 50, 90)).message


@pytest.mark.parametrize("kind", [INCREMENTAL, DIFFERENTIAL])
def test_slices_of_a_history_that_was_taken_back_are_not_gone_on_from(kind: BackupKind) -> None:
    """Their full is still in the oplog, so it could be read from there once more, beside them."""
    records = [full("f1", 10), piece(10, 60)]
    said = refused(request(kind), records, put_back(records, 50, 90))
    assert said.reason is Reason.OPLOG_GAP
    assert said.message.startswith("The last slice is of another history")


def test_a_full_joins_no_slices_of_another_history() -> None:
    records = LOST["a full behind slices"]
    found = decided(request(FULL), records, put_back(records, 50, 90))
    assert (found.timeline, found.because) == ("new", Reason.OPLOG_GAP)


@pytest.mark.parametrize("kind", [INCREMENTAL, SLICE, DIFFERENTIAL])
def test_behind_the_full_that_was_made_then_the_line_goes_on(kind: BackupKind) -> None:
    records = [*LOST["a full behind slices"], full("f3", 95, timeline="t2")]
    found = decided(request(kind), records, OplogView(point(99), frozenset({point(95)})))
    assert (found.timeline, found.begins, found.prev) == ("t2", False, point(95))
    assert found.base in ("f3", None)


@pytest.mark.parametrize("what", LOST)
def test_an_oplog_that_holds_every_end_is_gone_on_in(what: str) -> None:
    records = LOST[what]
    found = decided(request(INCREMENTAL), records, view(records, 0, 90))
    assert found.timeline == "t1"


def test_an_oplog_that_rolled_over_is_not_called_another_history() -> None:
    records = [full("f1", 10), piece(10, 60)]
    assert "does not reach back" in refused(request(INCREMENTAL), records, view(records, 61, 90)).message


def test_the_first_entry_to_look_for_is_where_the_line_ends() -> None:
    """What is behind it is looked for on every member; what is before it may rightly be gone."""
    records = [full("f0", 5), full("f1", 10), piece(10, 40), full("f2", 60)]
    assert anchors(records) == (point(40), point(60), point(5), point(10))
    assert anchors(records[:2])[0] == point(10)


def of_term(found: Recorded, second: int, term: int) -> Recorded:
    """The same full, ended at this second while the deployment was in this term."""
    optime = Optime(seconds=int(START.timestamp()) + second, counter=1, term=term)
    at = point(second).model_copy(update={"optime": optime})
    return record(BackupKind.FULL, found.id, to=at)


def test_a_reader_sees_by_the_term_that_a_full_is_of_another_history_than_the_slice_around_it() -> None:
    """rule 1.3: a chain that was written before anybody looked."""
    older, across = full("f1", 10), piece(10, 90)
    lost = of_term(full("f2", 0), 60, term=7)
    records = [older, across, lost, incremental("i1", 90, "f2")]
    base = int(START.timestamp())
    assert [(w.first - base, w.last - base) for w in windows(records)] == [(10, 89)]
    assert [r.id for r in restorable(records)] == ["f1", "f2", "i1"]
    alone = [across, lost]
    assert windows(alone) == ()
    assert len(windows([across, of_term(lost, 60, term=1)])) == 1
    assert len(windows([across, of_term(lost, 60, term=-1)])) == 1, "a term that is not known says nothing"
