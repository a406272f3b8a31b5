"""What a full belongs to when the former timeline was ended."""

import threading
from collections.abc import Mapping
from typing import Any, cast

import pytest

from lucid_storage.archive.decision import Decision
from lucid_storage.archive.manifest import BackupKind, OplogPoint, Optime
from lucid_storage.errors import Reason
from lucid_storage.jobs.contract import BackupRun
from lucid_storage.jobs.engines import Engines

PREV = OplogPoint(optime=Optime(seconds=5, counter=1), sha256="00")
JOINS = Decision(BackupKind.FULL, "old", begins=False, parent="last", prev=PREV)


class Mongo:
    """A timeline that a rename ended; `written` says whether its last slice can be."""

    def __init__(self, written: bool) -> None:
        self.written, self.asked = written, 0

    def end_timeline(self, run: BackupRun, decision: Decision, until: OplogPoint | None) -> bool:
        self.asked += 1
        return decision.prev is not None


class Place:
    def listing(self) -> None: ...


@pytest.mark.parametrize("written", [True, False])
def test_a_timeline_whose_end_cannot_be_written_is_left_and_not_asked_for_ever(
    written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    mongo = Mongo(written)

    class Decided(Engines):
        def _decide(self, *_: object) -> Decision:
            return (
                JOINS
                if not mongo.asked or not mongo.written
                else Decision(BackupKind.FULL, "new", begins=True)
            )

    engines = Decided(cast("Any", None), cast("Mapping[str, str]", {}))
    engines._mongodb = cast("Any", mongo)
    run = BackupRun(
        cast("Any", None), cast("Any", None), lambda _, __: None, lambda _: None, threading.Event()
    )
    decision = engines.decide(run, cast("Any", Place()), cast("Any", None))
    assert (decision.begins, decision.prev, mongo.asked) == (True, None, 2)
    assert decision.timeline != "old"
    assert decision.because is (None if written else Reason.OPLOG_GAP)
