"""A Backup whose volumes cannot be read, or that would make snapshots, looks first whether it was made (rule 1.10)."""

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from backup_builder import ID, NOW, RUN, ended, resource, settings

from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.kinds.backup.actions import MakeSnapshot, StartWorker
from lucid_storage.kinds.backup.desired import look_name
from lucid_storage.kinds.backup.kind import BackupKind
from lucid_storage.kinds.backup.observed import Plan
from lucid_storage.kinds.backup.volumes import VolumesReading, WantedSnapshot
from lucid_storage.kinds.workers.claims import DumpClaims
from lucid_storage.kinds.workers.state import ABSENT, WorkerPhase, WorkerState
from lucid_storage.models.backup import BackupPhase, BackupStatus
from lucid_storage.models.orders import BackupOrder

MADE = resource(namespace="system", engines=["volumes"], volumes=[{"name": "data", "method": "Snapshot"}])
LOOK = look_name(MADE)
LOST = RefusedError("There is no claim.", reason=Reason.CLAIM_MISSING)
UNMADE = VolumesReading(waiting=(WantedSnapshot("s", "data", "c", there=False),))
NOTHING_THERE = ended(ok=False, reason="Queued")


@dataclass
class Cluster:
    """What the kind asks of its surroundings, as each test has it."""

    volumes: VolumesReading | LucidError
    workers: dict[str, WorkerState] = field(default_factory=dict)

    def kind(self) -> BackupKind:
        me = cast("Any", self)
        return BackupKind(
            me, me, DumpClaims(), settings(), me, me, others=list, schedules=list, wake=lambda chosen: None
        )

    async def look(self, status: BackupStatus) -> Plan:
        kind = self.kind()
        return kind.plan(MADE, await kind.observe(MADE, status, NOW), status, NOW)

    async def settings(self, *_: object) -> object:
        return settings()

    async def reading(self, _: object) -> VolumesReading:
        if isinstance(self.volumes, LucidError):
            raise self.volumes
        return self.volumes

    async def check(self, *_: object) -> None:
        """All Secrets are there."""

    async def cluster(self) -> str:
        return "c"

    async def state(self, _: str, __: object, job: str, **___: object) -> WorkerState:
        return self.workers.get(job, ABSENT)


def order_of(step: Plan) -> BackupOrder:
    (start,) = step.actions
    assert isinstance(start, StartWorker)
    assert isinstance(start.request.order, BackupOrder)
    assert start.request.mounts == ()
    return start.request.order


@pytest.mark.parametrize("volumes", [LOST, UNMADE])
async def test_a_backup_that_was_made_before_needs_neither_its_claims_nor_a_snapshot(
    volumes: VolumesReading | LucidError,
) -> None:
    cluster = Cluster(volumes)
    step = await cluster.look(BackupStatus())
    assert (order_of(step).look_only, order_of(step).volumes) == (True, ())
    assert (step.status.phase, step.status.job_name) == (BackupPhase.RUNNING, LOOK)
    assert step.status.server_identity is None, "nobody waits for who only looks"
    assert order_of(await cluster.look(step.status)).look_only, "whoever comes next makes the same Job"
    cluster.workers[LOOK] = ended(
        ok=True, id="of-before", type="full", manifestSha256="ab", verified="Checksum"
    )
    found = await cluster.look(step.status)
    assert (found.status.phase, found.status.id) == (BackupPhase.COMPLETED, "of-before")


async def test_one_that_was_not_goes_on_as_ever_and_looks_only_once() -> None:
    cluster = Cluster(LOST)
    begun = (await cluster.look(BackupStatus())).status
    cluster.workers[LOOK] = NOTHING_THERE
    anew = await cluster.look(begun)
    assert (anew.status.phase, anew.status.run, anew.status.id) == (BackupPhase.PENDING, None, ID)
    waits = await cluster.look(anew.status)
    assert (waits.actions, waits.said and waits.said.reason) == ((), Reason.CLAIM_MISSING)
    cluster.volumes = UNMADE
    assert [type(a) for a in (await cluster.look(waits.status)).actions] == [MakeSnapshot]
    cluster.volumes = VolumesReading()
    made = await cluster.look(waits.status)
    assert (order_of(made).look_only, made.status.run) == (False, RUN)
    assert made.status.job_name != LOOK


async def test_what_can_be_read_at_once_is_not_looked_for_first() -> None:
    assert not order_of(await Cluster(VolumesReading()).look(BackupStatus())).look_only


async def test_a_worker_that_looked_and_is_lost_ends_as_any_other() -> None:
    cluster = Cluster(LOST, {LOOK: WorkerState(WorkerPhase.LOST, "its node is gone", over=True)})
    begun = (await Cluster(LOST).look(BackupStatus())).status
    assert (await cluster.look(begun)).status.phase is BackupPhase.FAILED
