"""A claim that its storage fills from a snapshot for an hour: no worker is lost over it, and nobody else waits."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from lucid_storage.errors import LucidError, Reason, StoreUnavailableError
from lucid_storage.kinds.oneshot import Standing
from lucid_storage.kinds.restore.actions import StartWorker
from lucid_storage.kinds.restore.desired import job_name, run_id
from lucid_storage.kinds.restore.kind import RestoreKind
from lucid_storage.kinds.restore.observed import Plan
from lucid_storage.kinds.restore.volume_targets import RestoreVolumes
from lucid_storage.kinds.restore.volumes import Origin
from lucid_storage.kinds.workers.state import ABSENT, WorkerPhase, WorkerState
from lucid_storage.kube.claims import Claim, Class, claim_of
from lucid_storage.kube.client import Json
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.restore import RestoredVolume, RestorePhase, RestorePlan, RestoreStatus
from lucid_storage.models.settings import Settings

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
DEADLINE = timedelta(hours=4)
MADE = Resource(
    key=Key("restores", "system", "back"),
    uid="u1",
    generation=1,
    resource_version="1",
    created="2026-11-21T05:00:00Z",
    deleted=None,
    annotations={},
    finalizers=(),
    spec={"backupName": "full", "engines": ["volumes"], "volumes": [{"name": "data"}]},
    status={},
)
BACKUP = replace(
    MADE, key=Key("backups", "system", "full"), spec={}, status={"id": "b1", "manifestSha256": "ab"}
)
RUN = run_id("u1", "", None)
HERE = Origin("b1", RUN)
FILLED = RestoredVolume(
    name="data", target="data", size_bytes=1 << 30, storage_class_name="now", snapshot="snap-1"
)
LOADING = RestoreStatus(
    phase=RestorePhase.LOADING,
    run=RUN,
    backup_id="b1",
    job_name=job_name(MADE, "restore", RUN),
    volumes=[FILLED],
    plan=RestorePlan(target_count=0),
)
SETTINGS = Settings.read(
    {
        "POD_NAMESPACE": "system",
        "WORKER_IMAGE": "image:1",
        "MONGODB_URI": "mongodb://db/",
        "BACKUP_STORAGE_TYPE": "s3",
        "BACKUP_S3_BUCKET": "vault",
        "BACKUP_S3_ENDPOINT": "http://s3:9000",
        "BACKUP_DEADLINE_SECONDS": str(int(DEADLINE.total_seconds())),
    }
)
ASKED = {**HERE.mark("data"), "volume.kubernetes.io/storage-provisioner": "p"}
"""Of a claim whose storage wants another node than the one that was chosen: for that it takes the choice off."""
UNPLACED = WorkerState(WorkerPhase.LOST, "no node takes its pod (unbound claims)", pod="back-restore-x")


@dataclass
class Cluster:
    """What the kind asks of its surroundings; claims as its own actions leave them."""

    claims: dict[str, Claim] = field(default_factory=dict)
    worker: WorkerState = ABSENT
    trouble: LucidError | None = None

    async def look(self, status: RestoreStatus, now: datetime = NOW) -> Plan:
        """Until nothing is left to do; what it ordered last."""
        me, none = cast("Any", self), cast("Any", None)
        volumes = RestoreVolumes(me, lambda _: None)
        kind = RestoreKind(
            none,
            me,
            none,
            SETTINGS,
            none,
            none,
            volumes,
            others=list,
            schedules=list,
            find_backup=lambda _: BACKUP,
            wake=none,
        )
        for _ in range(9):
            step = kind.plan(MADE, await kind.observe(MADE, status, now), status, now)
            status = step.status
            if not step.actions or any(isinstance(a, StartWorker) for a in step.actions):
                return step
            for action in step.actions:
                await kind.apply(MADE, status, action)
        raise AssertionError("it does not settle")

    async def cluster(self) -> str:
        return "c"

    async def check(self, *_: object) -> None:
        if self.trouble is not None:
            raise self.trouble

    async def state(self, *_: object, **__: object) -> WorkerState:
        return self.worker

    async def stop(self, *_: object) -> None:
        self.worker = ABSENT

    async def get(self, _: str, name: str) -> Claim | None:
        return self.claims.get(name)

    async def pods(self, _: str) -> list[object]:
        return []

    async def classes(self) -> dict[str, Class]:
        return {"now": Class("now", "p", True, True, "Delete", False), "later": LATER}

    async def create(self, body: Json) -> None:
        meta = {"uid": "u", "creationTimestamp": "2026-11-21T12:00:00Z", **body["metadata"]}
        self.claims[meta["name"]] = claim_of({**body, "metadata": meta})

    async def annotate(self, claim: Claim, annotations: dict[str, str]) -> None:
        self.claims[claim.name] = replace(claim, annotations={**claim.annotations, **annotations})


LATER = Class("later", "p", True, False, "Delete", False)


def there(origin: Origin = HERE, **more: Any) -> Claim:
    base = claim_of(
        {
            "metadata": {
                "namespace": "system",
                "name": "data",
                "uid": "u",
                "creationTimestamp": "2026-11-21T12:00:00Z",
                "annotations": origin.mark("data"),
            },
            "spec": {
                "storageClassName": "now",
                "resources": {"requests": {"storage": "1Gi"}},
                "dataSource": {"kind": "VolumeSnapshot", "name": "snap-1"},
            },
        }
    )
    return replace(base, **more)


def bound(cluster: Cluster) -> None:
    cluster.claims["data"] = replace(cluster.claims["data"], phase="Bound")


async def test_the_worker_begins_when_the_storage_has_made_the_claim() -> None:
    cluster = Cluster()
    waits = await cluster.look(LOADING)
    assert (waits.status.phase, waits.idle, waits.hold) == (RestorePhase.PENDING, True, True)
    assert waits.said is not None
    assert (waits.said.standing, waits.said.reason) == (Standing.UNDER_WAY, Reason.CLAIM_NOT_BOUND)
    assert waits.recheck_seconds is not None
    status = (await cluster.look(waits.status, NOW + timedelta(hours=3))).status
    assert (status.phase, status.claims_since) == (RestorePhase.PENDING, NOW)
    bound(cluster)
    begun = await cluster.look(status, NOW + DEADLINE)
    assert (begun.status.phase, begun.status.claims_since) == (RestorePhase.LOADING, None)
    last = await cluster.look(begun.status, NOW + DEADLINE)
    assert [type(a) for a in last.actions] == [StartWorker]


async def test_its_time_is_that_of_a_restore_and_no_short_trouble_takes_it() -> None:
    cluster = Cluster()
    status = (await cluster.look(LOADING)).status
    cluster.trouble = StoreUnavailableError("It does not answer.")
    status = (await cluster.look(status, NOW + timedelta(hours=2))).status
    assert (status.phase, status.claims_since) == (RestorePhase.PENDING, NOW)
    cluster.trouble = None
    status = (await cluster.look(status, NOW + DEADLINE)).status
    assert (status.phase, status.trouble_since) == (RestorePhase.PENDING, None)
    over = await cluster.look(status, NOW + DEADLINE + timedelta(seconds=1))
    assert over.said is not None
    assert (over.status.phase, over.said.reason) == (RestorePhase.FAILED, Reason.CLAIM_NOT_BOUND)
    assert "did not make the claim data within 240 minutes" in over.said.message
    assert "kubectl describe persistentvolumeclaim data" in over.said.message


async def test_what_another_run_is_waiting_for_is_gone_on_with_as_long_as_nobody_can_have_written() -> None:
    cluster = Cluster({"data": there(Origin("b1", "run0"))})
    waits = await cluster.look(LOADING)
    assert cluster.claims["data"].annotations.items() >= HERE.mark("data").items()
    bound(cluster)
    assert (await cluster.look(waits.status)).status.phase is RestorePhase.LOADING
    cluster.claims["data"] = there(Origin("b1", "run0"), phase="Bound")
    assert (await cluster.look(LOADING)).said.reason is Reason.TARGET_NOT_EMPTY  # type: ignore[union-attr]


async def test_two_that_wait_for_one_claim_take_it_once() -> None:
    cluster = Cluster()
    waits = await cluster.look(LOADING)
    cluster.claims["data"] = there(Origin("b1", "another"))
    step = await cluster.look(waits.status)
    assert step.said is not None
    assert step.said.reason is Reason.TARGET_NOT_EMPTY
    assert cluster.claims["data"].annotations.items() >= Origin("b1", "another").mark("data").items()


@pytest.mark.parametrize(
    "claim",
    [
        there(Origin("b0", "run0")),
        there(Origin("b1", "run0"), source="another"),
        there(Origin("b1", "run0"), phase="Lost"),
    ],
    ids=["of another backup", "of another snapshot", "whose volume is lost"],
)
async def test_no_other_claim_is_taken(claim: Claim) -> None:
    step = await Cluster({"data": claim}).look(LOADING)
    assert step.said is not None
    assert step.said.reason is Reason.TARGET_NOT_EMPTY


async def test_an_archive_goes_into_no_claim_that_is_filled_from_something_else() -> None:
    archive = LOADING.model_copy(update={"volumes": [FILLED.model_copy(update={"snapshot": None})]})
    step = await Cluster({"data": there(Origin("b0", "run0"))}).look(archive)
    assert step.said is not None
    assert step.said.reason is Reason.TARGET_NOT_EMPTY
    assert "made from snap-1" in step.said.message
    started = await Cluster({"data": there(Origin("b0", "run0"), source=None)}).look(archive)
    assert [type(a) for a in started.actions] == [StartWorker]


async def test_a_class_that_waits_for_a_pod_gets_its_pod() -> None:
    started = await Cluster({"data": there(class_name="later")}).look(LOADING)
    assert [type(a) for a in started.actions] == [StartWorker]


@pytest.mark.parametrize(
    ("worker", "claim", "lost"),
    [
        (UNPLACED, there(class_name="later", selected_node="n1"), False),
        (UNPLACED, there(class_name="later", annotations=ASKED), False),
        (UNPLACED, there(class_name="later", annotations=ASKED, phase="Bound"), True),
        (UNPLACED, there(class_name="later"), True),
        (UNPLACED, there(class_name="later", selected_node="n1", phase="Bound"), True),
        (replace(UNPLACED, pod=None), there(class_name="later", selected_node="n1"), True),
        (replace(UNPLACED, over=True), there(class_name="later", selected_node="n1"), True),
        (replace(UNPLACED, overdue=True), there(class_name="later", selected_node="n1"), True),
    ],
    ids=[
        "is made",
        "is to be made for another node",
        "is there after all",
        "no node was chosen",
        "is there",
        "there is no pod",
        "the pod is over",
        "the deadline is over",
    ],
)
async def test_a_pod_whose_claim_is_being_made_is_not_lost(
    worker: WorkerState, claim: Claim, lost: bool
) -> None:
    step = await Cluster({"data": claim}, worker).look(LOADING)
    assert (step.status.phase is RestorePhase.FAILED) is lost
    if not lost:
        assert step.said is not None
        assert "the claim data" in step.said.message
