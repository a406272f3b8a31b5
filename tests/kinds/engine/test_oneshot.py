"""One look at a Backup or Restore: whom it keeps waiting, and what it finishes in a namespace that is going."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from kinds.surroundings import services
from lucid_storage.errors import Reason
from lucid_storage.kinds.oneshot import OneShotCycle, Said, Standing, Step
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.kinds import KINDS
from lucid_storage.models.meta import FINALIZER
from lucid_storage.models.restore import RestorePhase, RestoreStatus

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@dataclass
class Kind:
    """Says in each look what a test wants it to."""

    step: Step[RestoreStatus]
    info = KINDS["Restore"]
    status_type = RestoreStatus
    let_others_go: list[Key] = field(default_factory=list)

    async def observe(self, *_: object) -> None:
        return None

    def plan(self, *_: object) -> Step[RestoreStatus]:
        return self.step

    def ended(self, resource: Resource, status: RestoreStatus) -> None:
        self.let_others_go.append(resource.key)


@dataclass
class Bed:
    step: Step[RestoreStatus]
    released: bool = False

    def cycle(self) -> OneShotCycle[Any, RestoreStatus]:
        self.kind = Kind(self.step)
        given = services(self, now=lambda: NOW)
        return OneShotCycle(cast("Any", self.kind), given)

    async def write(self, resource: Resource, status: dict[str, Any]) -> str:
        return "11"

    def emit(self, event: object) -> None: ...

    async def hold(self, resource: Resource) -> bool:
        return True

    async def release(self, resource: Resource) -> bool:
        self.released = True
        return True

    async def namespace_terminating(self, namespace: str) -> bool:
        return True


def leaving(minutes: int) -> Resource:
    meta = {
        "name": "back",
        "namespace": "ns",
        "uid": "u",
        "resourceVersion": "10",
        "generation": 1,
        "deletionTimestamp": (NOW - timedelta(minutes=minutes)).isoformat(),
        "finalizers": [FINALIZER],
    }
    return Resource.from_body("restores", {"metadata": meta, "spec": {}})


def step(**more: Any) -> Step[RestoreStatus]:
    said = Said(Standing.UNDER_WAY, Reason.RUNNING, "It goes on.")
    return Step(RestoreStatus(phase=RestorePhase.SWAPPING), said, hold=True, **more)


async def test_a_started_swap_is_finished_in_a_namespace_that_is_going() -> None:
    """Rule 3."""
    bed = Bed(step(must_finish=True, retry=True))
    outcome = await bed.cycle().run(leaving(minutes=20))
    assert (bed.released, outcome.failed) == (False, True)


async def test_everything_else_is_let_go_there() -> None:
    bed = Bed(step(retry=True))
    outcome = await bed.cycle().run(leaving(minutes=20))
    assert (bed.released, outcome.gone) == (True, True)


async def test_whoever_waits_goes_on_while_it_is_in_trouble() -> None:
    bed = Bed(step(idle=True, retry=True))
    cycle = bed.cycle()
    there = Resource.from_body("restores", {"metadata": {"name": "back", "namespace": "ns", "uid": "u"}})
    await cycle.run(there)
    assert bed.kind.let_others_go == [there.key]
    bed.kind.step = step()
    await cycle.run(there)
    assert len(bed.kind.let_others_go) == 1
