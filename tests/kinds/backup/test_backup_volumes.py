"""Volumes in a Backup: which claims a worker mounts, where, and as whom; snapshots come first."""

from dataclasses import replace
from typing import Any

import pytest
from backup_builder import NOW, UID, observed, resource, settings, snapshot

from lucid_storage.errors import LucidError, NotAllowedError, Reason, RefusedError
from lucid_storage.kinds.backup.actions import MakeSnapshot, StartWorker
from lucid_storage.kinds.backup.desired import BackupDesired, resolve
from lucid_storage.kinds.backup.plan import plan
from lucid_storage.kinds.backup.volumes import (
    VolumeFacts,
    VolumesReading,
    reading,
    snapshot_name,
)
from lucid_storage.kinds.workers.job import WORKER, Image, PodIdentity, WorkerJob, build
from lucid_storage.kube.claims import Claim, PersistentVolume, PodUse, claim_of
from lucid_storage.kube.snapshots import SnapshotClass
from lucid_storage.models.backup import (
    BackupSpec,
    BackupStatus,
    VolumeMethod,
)
from lucid_storage.models.orders import BackupOrder
from lucid_storage.models.volume import CopyIdentity

CLASSES = [SnapshotClass("other", "other.csi", True), SnapshotClass("snap", "loop.csi", False)]


def claim(name: str = "data", **more: Any) -> Claim:
    base = claim_of(
        {
            "metadata": {
                "namespace": "app",
                "name": name,
                "uid": f"uid-{name}",
                "resourceVersion": "1",
                "creationTimestamp": "2026-11-21T12:00:00Z",
            },
            "spec": {
                "storageClassName": "fast",
                "volumeName": f"pv-{name}",
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
            "status": {"phase": "Bound", "capacity": {"storage": "2Gi"}},
        }
    )
    return replace(base, **more)


def facts(name: str = "data", method: VolumeMethod = VolumeMethod.ARCHIVE, **more: Any) -> VolumeFacts:
    volume = PersistentVolume(f"pv-{name}", "u", "Bound", "Delete", 1 << 30, "fast", "csi", driver="loop.csi")
    return replace(VolumeFacts(name, method, claim(name), volume), **more)


def pod(node: str | None = "n1", **more: Any) -> PodUse:
    return replace(PodUse("app-0", "u", "Running", node, frozenset({"data"})), **more)


def read(*of: VolumeFacts, onto: str | None = None) -> VolumesReading:
    return reading(UID, of, CLASSES, onto_claim=onto)


def volumes_of(**spec: Any) -> BackupDesired:
    made = resource(namespace="system", engines=["volumes"], volumes=[{"name": "data"}], **spec)
    return resolve(made, BackupSpec.model_validate(made.spec), settings(), settings())


# What is read


def test_a_claim_that_nobody_uses_is_read_wherever_there_is_room() -> None:
    found = read(facts())
    assert (found.node, found.identity, found.waiting) == (None, PodIdentity(65532, 65532, None), ())
    (mount,) = found.mounts
    assert (mount.claim, mount.folder, mount.read_only) == ("data", "data", True)
    (source,) = found.sources
    assert (source.in_use, source.requested_bytes, source.storage_class) == (False, 2 << 30, "fast")


def test_a_claim_for_one_node_is_read_on_the_node_of_its_pod() -> None:
    found = read(facts(users=(pod(),)))
    assert (found.node, found.sources[0].in_use) == ("n1", True)


def test_a_claim_for_many_nodes_is_read_anywhere() -> None:
    shared = claim(access_modes=("ReadWriteMany",))
    found = read(facts(claim=shared, users=(pod(),)))
    assert (found.node, found.sources[0].in_use) == (None, True)


def test_a_pod_that_only_reads_leaves_the_state_of_one_moment() -> None:
    assert read(facts(users=(pod(read_only=True),))).sources[0].in_use is False


def test_the_worker_is_the_user_that_the_volume_names() -> None:
    copy = CopyIdentity(run_as_user=999)
    assert read(facts(copy=copy)).identity == PodIdentity(999, 999, None)
    assert read(facts(copy=copy), onto="backups").identity == PodIdentity(999, 999, 65532)


def test_a_snapshot_alone_needs_no_mount_and_the_workers_own_user() -> None:
    found = read(facts(method=VolumeMethod.SNAPSHOT, snapshot=snapshot(), copy=CopyIdentity(run_as_user=999)))
    assert (found.mounts, found.identity, found.node) == ((), WORKER, None)


@pytest.mark.parametrize(
    ("of", "reason", "said"),
    [
        ((facts(claim=None),), Reason.CLAIM_MISSING, 'no claim "data"'),
        ((facts(claim=claim(phase="Pending")),), Reason.CLAIM_NOT_BOUND, "Pending"),
        ((facts(claim=claim(volume_mode="Block")),), Reason.NOT_SUPPORTED, "raw block device"),
        ((facts(claim=claim(deleting=True)),), Reason.CLAIM_NOT_BOUND, "being deleted"),
        (
            (facts(claim=claim(access_modes=("ReadWriteOncePod",)), users=(pod(),)),),
            Reason.CLAIM_IN_USE,
            "app-0",
        ),
        (
            (facts(users=(pod(),)), facts("logs", users=(pod("n2"),))),
            Reason.CLAIM_IN_USE,
            "a Backup for each",
        ),
        (
            (facts(copy=CopyIdentity(run_as_user=1)), facts("logs")),
            Reason.INVALID_SPEC,
            "different users",
        ),
        (
            (facts(method=VolumeMethod.SNAPSHOT, volume=None),),
            Reason.NOT_SUPPORTED,
            "use method Archive",
        ),
        (
            (facts(method=VolumeMethod.SNAPSHOT, snapshot=snapshot(labels={})),),
            Reason.CONFLICT,
            "not ours",
        ),
        (
            (facts(method=VolumeMethod.SNAPSHOT, snapshot=snapshot(ready=False, error="no space")),),
            Reason.UNHEALTHY,
            "no space",
        ),
    ],
)
def test_what_cannot_be_read_is_said_in_a_sentence(
    of: tuple[VolumeFacts, ...], reason: Reason, said: str
) -> None:
    with pytest.raises(LucidError, match=said) as caught:
        read(*of)
    assert caught.value.reason is reason


def test_the_place_of_the_backup_is_not_backed_up_into_itself() -> None:
    with pytest.raises(RefusedError, match="leave it out"):
        read(facts(), onto="data")


def test_a_snapshot_is_asked_for_once_then_waited_for_then_written_down() -> None:
    one = facts(method=VolumeMethod.SNAPSHOT)
    (wanted,) = read(one).waiting
    assert (wanted.name, wanted.class_name, wanted.there) == (snapshot_name(UID, "data"), "snap", False)
    (waiting,) = read(replace(one, snapshot=snapshot(ready=False))).waiting
    assert waiting.there
    ready = read(replace(one, snapshot=snapshot()))
    assert ready.waiting == ()
    taken = ready.sources[0].snapshot
    assert taken is not None
    assert (taken.name, taken.driver, ready.sources[0].requested_bytes) == (wanted.name, "loop.csi", 2 << 30)


# What is planned


def test_the_job_mounts_the_claim_read_only_beside_its_pod_and_changes_no_owners() -> None:
    desired = replace(volumes_of(), volumes=read(facts(users=(pod(),))))
    step = plan(desired.resource, observed(desired=desired), BackupStatus(), NOW)
    (start,) = step.actions
    assert isinstance(start, StartWorker)
    request = start.request
    assert isinstance(request.order, BackupOrder)
    assert request.order.volumes == desired.volumes.sources
    job = WorkerJob(
        command=request.command,
        name=request.name,
        namespace="system",
        owner=request.owner,
        order=request.order,
        image=Image("image:1", "IfNotPresent", (), {}),
        variables={},
        keys_secret="keys",
        mounts=request.mounts,
        node=request.node,
        identity=request.identity,
    )
    spec = build(job)["spec"]["template"]["spec"]
    assert "fsGroup" not in spec["securityContext"]
    keys = next(v["secret"] for v in spec["volumes"] if "secret" in v)
    assert keys["defaultMode"] == 0o444  # nobody is in the group that could read them else
    volume = next(v for v in spec["volumes"] if "persistentVolumeClaim" in v)
    assert volume["persistentVolumeClaim"] == {"claimName": "data", "readOnly": True}
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert terms["nodeSelectorTerms"][0]["matchFields"][0]["values"] == ["n1"]


def test_snapshots_come_before_the_worker() -> None:
    one = facts(method=VolumeMethod.SNAPSHOT)
    desired = replace(volumes_of(), volumes=read(one))
    step = plan(desired.resource, observed(desired=desired), BackupStatus(), NOW)
    assert [type(a) for a in step.actions] == [MakeSnapshot]
    assert step.status.run is None
    desired = replace(desired, volumes=read(replace(one, snapshot=snapshot(ready=False))))
    step = plan(desired.resource, observed(desired=desired), step.status, NOW)
    assert (step.actions, step.recheck_seconds is not None) == ((), True)
    desired = replace(desired, volumes=read(replace(one, snapshot=snapshot())))
    step = plan(desired.resource, observed(desired=desired), step.status, NOW)
    assert [type(a) for a in step.actions] == [StartWorker]


# What is refused


def test_the_operators_credentials_are_never_taken_beside_a_claim() -> None:
    given = settings(SERVED_NAMESPACES='{"app": {}}')
    made = resource(engines=["volumes"], volumes=[{"name": "data"}])
    with pytest.raises(NotAllowedError, match="a Job in this namespace"):
        resolve(made, BackupSpec.model_validate(made.spec), given, given)


def test_volumes_must_be_named() -> None:
    made = resource(namespace="system", engines=["volumes"])
    with pytest.raises(RefusedError, match="Name the Volumes"):
        resolve(made, BackupSpec.model_validate(made.spec), settings(), settings())
