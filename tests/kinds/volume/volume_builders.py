"""One builder for each thing that a Volume's plan looks at."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from lucid_storage.kinds.oneshot import Step
from lucid_storage.kinds.volume.desired import resolve
from lucid_storage.kinds.volume.observed import Figures, VolumeObserved
from lucid_storage.kinds.volume.plan import Scope, plan
from lucid_storage.kube.claims import Claim, Class, Node, PersistentVolume, PodUse
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.base import Condition, ConditionStatus
from lucid_storage.models.meta import CREATED_FOR
from lucid_storage.models.quantity import to_bytes
from lucid_storage.models.settings import Settings
from lucid_storage.models.volume import VolumeStatus

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LATER = timedelta(minutes=20)
UID = "volume-uid"

EXPANDABLE = Class("fast", "csi.example", True, True, "Delete", False, created="2026-01-01")
LOCAL_PATH = Class("local-path", "rancher.io/local-path", False, False, "Delete", True, created="2026-01-01")
CLASSES = {c.name: c for c in (EXPANDABLE, LOCAL_PATH)}


def volume(spec: Mapping[str, Any] | None = None, **fields: Any) -> Resource:
    """A Volume named `chunks` in the namespace `lucid`."""
    made = Resource(
        key=Key("volumes", "lucid", "chunks"),
        uid=UID,
        generation=1,
        resource_version="1",
        created="2026-11-21T11:00:00Z",
        deleted=None,
        annotations={},
        finalizers=(),
        spec={"type": "chunks", **(spec or {})},
        status={},
    )
    return replace(made, **fields)


def claim(size: str = "10Gi", **fields: Any) -> Claim:
    """A bound claim of the class `fast` that was made for the Volume."""
    made = Claim(
        namespace="lucid",
        name="chunks",
        uid="claim-uid",
        resource_version="7",
        phase="Bound",
        created=NOW - timedelta(hours=1),
        class_name="fast",
        volume_name="pv-1",
        access_modes=("ReadWriteOnce",),
        volume_mode="Filesystem",
        requested=to_bytes(size),
        capacity=to_bytes(size),
        annotations={CREATED_FOR: UID},
    )
    return replace(made, **fields)


def pending(**fields: Any) -> Claim:
    return claim(**{"phase": "Pending", "volume_name": None, "capacity": None, **fields})


def persistent_volume(**fields: Any) -> PersistentVolume:
    made = PersistentVolume(
        name="pv-1",
        uid="pv-uid",
        phase="Bound",
        reclaim_policy="Delete",
        capacity=to_bytes("10Gi"),
        class_name="fast",
        source="csi",
    )
    return replace(made, **fields)


def pod(name: str = "writer", **fields: Any) -> PodUse:
    made = PodUse(name, f"{name}-uid", "Running", "node-a", frozenset({"chunks"}))
    return replace(made, **fields)


def node(name: str = "node-a", *, ready: bool = True) -> Node:
    return Node(name, name, ready, "2026-11-21T11:50:00Z", "10.0.0.1")


def seen(known: Claim | None = None, **fields: Any) -> VolumeObserved:
    return replace(VolumeObserved(claim=known, classes=CLASSES), **fields)


def figures(percent: int, *, size: str = "10Gi", at: datetime = NOW, **fields: Any) -> Figures:
    capacity = to_bytes(size)
    used = capacity * percent // 100
    made = Figures(at=at, used=used, available=capacity - used, capacity=capacity)
    return replace(made, **fields)


def look(
    resource: Resource,
    observed: VolumeObserved,
    status: VolumeStatus | None = None,
    *,
    now: datetime = NOW,
    settings: Settings | None = None,
) -> Step[VolumeStatus]:
    """One plan."""
    scope = Scope(now, resource.generation, resource.paused, 600.0)
    return plan(resolve(resource, settings or Settings()), observed, status or VolumeStatus(), scope)


def told(step: Step[VolumeStatus], *, generation: int = 1, now: datetime = NOW) -> VolumeStatus:
    """The status as it is read at the next look."""
    said = step.said
    assert said is not None
    rows = [
        Condition(
            type=kind,
            status=ConditionStatus.TRUE if on else ConditionStatus.FALSE,
            reason=str(reason),
            message=message,
            last_transition_time=now,
            observed_generation=generation,
        )
        for kind, on, reason, message in said.more
    ]
    return step.status.model_copy(update={"conditions": rows, "observed_generation": generation})


def settled(
    resource: Resource, observed: VolumeObserved, status: VolumeStatus | None = None, **when: Any
) -> VolumeStatus:
    """The status after a look that had nothing to do."""
    return told(look(resource, observed, status, **when))


def condition(step: Step[VolumeStatus], kind: str) -> tuple[bool, str, str] | None:
    """Status, reason and message of one of the kind's own conditions."""
    assert step.said is not None
    return next(((on, str(r), m) for k, on, r, m in step.said.more if k == kind), None)
