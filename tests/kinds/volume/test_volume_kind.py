"""The hands of the kind: what a refusal leaves behind, and what goes on beside a migration."""

from dataclasses import replace
from datetime import datetime
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from volume_builders import EXPANDABLE, LOCAL_PATH, NOW, claim, figures, persistent_volume, pod, told, volume

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds.contract import Action
from lucid_storage.kinds.oneshot import Said, Standing, Step
from lucid_storage.kinds.volume.book import UsageBook
from lucid_storage.kinds.volume.kind import VolumeKind
from lucid_storage.kinds.volume.metrics import VolumeMetrics
from lucid_storage.kinds.volume.surroundings import Surroundings
from lucid_storage.kube.claims import Attachment, Claim, Claims, Class, Node, PersistentVolume, PodUse
from lucid_storage.kube.client import Json
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.settings import Settings
from lucid_storage.models.volume import VolumeStatus

GROWING = {"autoExpand": {"enabled": True, "stepPercent": 20}}


class Cluster:
    """The few answers that the kind asks for."""

    def __init__(self, known: Claim | None, *users: PodUse) -> None:
        self.claim = known
        self.users = list(users)
        self.refuse: LucidError | None = None
        self.expanded: list[int] = []
        self.by_itself: list[bool] = []

    async def get(self, namespace: str, name: str) -> Claim | None:
        return self.claim

    async def volume(self, name: str) -> PersistentVolume | None:
        return persistent_volume()

    async def classes(self) -> dict[str, Class]:
        return {c.name: c for c in (EXPANDABLE, LOCAL_PATH)}

    async def pods(self, namespace: str, *, ended: bool = False) -> list[PodUse]:
        return self.users

    async def nodes(self) -> list[Node]:
        return [Node("node-a", "node-a", True)]

    async def attachments(self) -> list[Attachment]:
        return [Attachment("pv-1", "node-b", True)]

    async def expand(self, known: Claim, size: int, *, grown: bool) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.expanded.append(size >> 30)
        self.by_itself.append(grown)
        self.claim = replace(known, requested=size)


class Waiting:
    """A migration that waits for a pod to end."""

    def concerns(self, *_: object) -> bool:
        return True

    async def observe(self, *_: object) -> object:
        return "seen"

    def plan(self, *given: object) -> Step[VolumeStatus]:
        status = given[4]
        assert isinstance(status, VolumeStatus)
        return Step(status, Said(Standing.BLOCKED, Reason.CLAIM_IN_USE, "Waits."))

    async def apply(self, resource: Resource, status: VolumeStatus, action: Action) -> None:
        raise AssertionError(action.describe())

    def forget(self, key: Key) -> None:
        """Nothing is kept."""


def kind(cluster: Cluster, book: UsageBook | None = None, **more: Any) -> VolumeKind:
    claims = cast("Claims", cluster)
    surroundings = Surroundings(claims, now=lambda: NOW)
    return VolumeKind(claims, surroundings, book or UsageBook(), Settings(), jitter=lambda: 1.0, **more)


async def look(
    made: VolumeKind, resource: Resource, status: VolumeStatus, now: datetime = NOW
) -> Step[VolumeStatus]:
    """As the cycle does it: until nothing is left to do."""
    for _ in range(5):
        step = made.plan(resource, await made.observe(resource, status, now), status, now)
        status = step.status
        if not step.actions:
            return step
        for action in step.actions:
            await made.apply(resource, status, action)
    raise AssertionError("it does not settle")


async def test_a_refused_expansion_is_said_and_figures_go_on() -> None:
    cluster, book = Cluster(claim()), UsageBook()
    cluster.refuse = LucidError("No room.", reason=Reason.QUOTA_EXCEEDED)
    made = kind(cluster, book)
    book.put(("lucid", "chunks"), figures(85))
    step = await look(made, volume({"size": "12Gi"}), VolumeStatus())
    assert step.said is not None
    assert (step.said.reason, step.said.standing) == (Reason.QUOTA_EXCEEDED, Standing.BLOCKED)
    assert step.status.use_percent == 85
    assert step.recheck_seconds == 5
    cluster.refuse = None
    changed = await look(made, volume({"size": "12Gi"}, generation=2), step.status)
    assert cluster.expanded == [12]
    assert changed.actions == ()


@pytest.mark.parametrize(("spec", "grown"), [({"size": "12Gi"}, False), (GROWING, True)])
async def test_only_a_size_that_nobody_declared_is_noted_as_grown(spec: Json, grown: bool) -> None:
    cluster, book = Cluster(claim()), UsageBook()
    made = kind(cluster, book)
    book.put(("lucid", "chunks"), figures(85))
    await look(made, volume(spec), VolumeStatus())
    assert (cluster.expanded, cluster.by_itself) == ([12], [grown])


async def test_use_and_thresholds_go_on_while_a_migration_waits() -> None:
    cluster, book = Cluster(claim(), pod()), UsageBook()
    made = kind(cluster, book, migrations=Waiting())
    book.put(("lucid", "chunks"), figures(96))
    step = await look(made, volume(), VolumeStatus())
    assert step.said is not None
    assert (step.said.message, step.status.use_percent, step.status.used_by) == ("Waits.", 96, ["writer"])
    assert [n.reason for n in step.notices] == ["UsageCritical", "ClaimInUse"]


async def test_a_bad_declaration_is_told_and_keeps_the_finalizer_that_deletion_needs() -> None:
    made = kind(Cluster(claim()))
    step = await look(made, volume({"size": "500Gi", "deletionPolicy": "Delete"}), VolumeStatus())
    assert step.said is not None
    assert (step.said.reason, step.hold, step.actions) == (Reason.INVALID_SPEC, True, ())


async def test_a_volume_is_known_by_the_nodes_that_it_depends_on() -> None:
    made = kind(Cluster(claim(), pod()))
    resource = volume()
    await look(made, resource, VolumeStatus())
    assert made.touched_by(frozenset({"node-a"})) == [resource.key]
    assert made.touched_by(frozenset({"node-b"})) == [resource.key]
    assert made.touched_by(frozenset({"node-c"})) == []
    made.forget(resource.key)
    assert made.touched_by(frozenset({"node-a"})) == []


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
async def test_only_a_volume_that_deletes_carries_a_finalizer(policy: str) -> None:
    step = await look(kind(Cluster(claim())), volume({"deletionPolicy": policy}), VolumeStatus())
    assert step.hold is (policy == "Delete")


async def test_metrics_are_live_and_end_with_the_volume() -> None:
    registry, book = CollectorRegistry(), UsageBook()
    metrics = VolumeMetrics(registry)
    metrics.usage = book.get
    made = kind(Cluster(claim()), book, metrics=metrics)
    resource = volume()
    await look(made, resource, VolumeStatus())
    labels = {"resource_namespace": "lucid", "volume": "chunks"}
    assert registry.get_sample_value("lucid_volume_used_ratio", labels) is None
    book.put(("lucid", "chunks"), figures(50))
    assert registry.get_sample_value("lucid_volume_used_ratio", labels) == 0.5
    book.put(("lucid", "chunks"), replace(figures(60), at=NOW.replace(hour=13)))
    assert registry.get_sample_value("lucid_volume_used_ratio", labels) == 0.6
    assert registry.get_sample_value("lucid_volume_bound", labels) == 1
    made.forget(resource.key)
    assert registry.get_sample_value("lucid_volume_bound", labels) is None


async def test_an_event_tells_when_ready_or_its_reason_changed_and_nothing_else() -> None:
    cluster = Cluster(claim())
    made, resource = kind(cluster), volume()

    async def events(status: VolumeStatus) -> tuple[list[str], VolumeStatus]:
        step = await look(made, resource, status)
        assert step.said is not None
        ready = [("Ready", step.said.standing is Standing.DONE, step.said.reason, step.said.message)]
        rows = Step(step.status, replace(step.said, more=(*ready, *step.said.more)))
        return [n.reason for n in step.notices], told(rows)

    first, status = await events(VolumeStatus())
    again, status = await events(status)
    cluster.claim = None
    lost, status = await events(status)
    still, status = await events(status)
    cluster.claim = claim()
    back, status = await events(status)
    assert (first, again, lost, still, back) == ([], [], ["ClaimLost"], [], ["Ready"])
