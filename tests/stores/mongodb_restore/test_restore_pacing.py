"""Rule 2.8: a restore waits while slices fall behind half of what the oplog holds, but only for who is at work."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from lucid_storage.stores.mongodb.restore.pacing import PATIENCE_SECONDS, PERIOD_SECONDS, SlicePace
from lucid_storage.stores.mongodb.restore.target import Target
from testbed.stores.mongodb import Client, MongoDB

pytestmark = pytest.mark.mongodb


class StillWaitingError(Exception):
    """It waits, and the test has seen enough."""


@dataclass
class Bed:
    """A real oplog, slices that a test moves, and time that passes with each pause."""

    uri: str
    first: int
    last: int
    reach: int | None
    passed: float = 0.0
    pauses: int = 0
    enough: int = 3
    looks: list[int | None] = field(default_factory=list)

    def wait(self) -> None:
        """One restore that would write its next batch now."""
        with Target(self.uri, wait=self.pause) as target:
            SlicePace(target, self.newest, clock=lambda: self.passed).wait()

    def pause(self, seconds: float) -> None:
        self.pauses += 1
        self.passed += seconds
        if self.pauses >= self.enough:
            raise StillWaitingError

    def newest(self) -> int | None:
        self.looks.append(self.reach)
        return self.reach


@pytest.fixture
def bed(mongodb: MongoDB) -> Iterator[Bed]:
    with mongodb.client() as client:
        yield Bed(mongodb.uri, _second(client, 1), _second(client, -1), None)


def _second(client: Client, direction: int) -> int:
    (entry,) = client.local["oplog.rs"].find({}, {"ts": 1}).sort("$natural", direction).limit(1)
    return int(entry["ts"].time)


def test_slices_that_follow_closely_hold_nothing_up(bed: Bed) -> None:
    bed.reach = bed.last
    bed.wait()
    assert bed.pauses == 0


def test_slices_that_fall_behind_are_waited_for(bed: Bed) -> None:
    bed.reach = bed.first - 3600
    with pytest.raises(StillWaitingError):
        bed.wait()


def test_it_goes_on_when_they_have_caught_up(bed: Bed) -> None:
    bed.reach = bed.first - 3600
    bed.enough = 10_000
    newest, now = bed.newest, bed.last

    def catches_up() -> int | None:
        if bed.pauses >= 2:
            bed.reach = now + 3600
        return newest()

    bed.newest = catches_up  # type: ignore[method-assign]
    bed.wait()
    assert bed.pauses == 2


def test_a_slicer_that_does_nothing_is_not_waited_for_for_ever(bed: Bed) -> None:
    bed.reach = bed.first - 3600
    bed.enough = 10_000
    bed.wait()
    assert PATIENCE_SECONDS <= bed.passed < PATIENCE_SECONDS + PERIOD_SECONDS


def test_without_slices_nobody_is_waited_for(bed: Bed) -> None:
    bed.wait()
    assert bed.pauses == 0


def test_it_looks_now_and_then_and_not_before_each_batch(bed: Bed) -> None:
    bed.reach = bed.last
    with Target(bed.uri) as target:
        pace = SlicePace(target, bed.newest, clock=lambda: bed.passed)
        for _ in range(100):
            pace.wait()
        assert len(bed.looks) == 1
        bed.passed += PERIOD_SECONDS
        pace.wait()
    assert len(bed.looks) == 2
