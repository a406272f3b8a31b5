"""Bodies of the API server become values; refusals become sentences."""

from typing import Any, cast

import pytest

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kube.claims import Claims
from lucid_storage.kube.client import Json, Kube, KubeApiError
from lucid_storage.kube.storage import attachment_of, claim_of, class_of, node_of, pod_use, volume_of
from lucid_storage.models.meta import GROWN_TO

GIB = 1024**3


def claim(**changes: Any) -> Json:
    body: Json = {
        "metadata": {
            "namespace": "lucid",
            "name": "chunks",
            "uid": "u",
            "resourceVersion": "7",
            "creationTimestamp": "2026-11-21T09:00:00Z",
            "annotations": {"volume.kubernetes.io/selected-node": "node-a"},
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "fast",
            "volumeName": "pv-1",
            "resources": {"requests": {"storage": "2Gi"}},
        },
        "status": {
            "phase": "Bound",
            "capacity": {"storage": "1Gi"},
            "allocatedResourceStatuses": {"storage": "ControllerResizeInfeasible"},
            "conditions": [
                {"type": "Resizing", "status": "True", "message": "on its way"},
                {"type": "FileSystemResizePending", "status": "False"},
            ],
        },
    }
    return {**body, **changes}


def test_a_claim_is_read() -> None:
    found = claim_of(claim())
    assert (found.bound, found.requested, found.capacity) == (True, 2 * GIB, GIB)
    assert (found.resize, dict(found.conditions)) == (
        "ControllerResizeInfeasible",
        {"Resizing": "on its way"},
    )
    assert (found.selected_node, found.volume_mode, found.deleting) == ("node-a", "Filesystem", False)
    new = claim_of(claim(status={}))
    assert (new.phase, new.bound, new.capacity) == ("Pending", False, None)


def test_a_volume_tells_where_it_lies_and_for_whom() -> None:
    affinity = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-a"]}
    found = volume_of(
        {
            "metadata": {"name": "pv-1", "uid": "u"},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "local": {"path": "/data"},
                "claimRef": {"namespace": "lucid", "name": "chunks", "uid": "c"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [affinity]}]}},
            },
        }
    )
    assert (found.source, found.hostnames, found.claim) == ("local", ("node-a",), ("lucid", "chunks", "c"))
    assert found.reclaim_policy == "Retain"


def test_a_class_tells_whether_it_expands_and_waits() -> None:
    marked = {"storageclass.kubernetes.io/is-default-class": "true"}
    found = class_of(
        {
            "metadata": {"name": "fast", "annotations": marked},
            "provisioner": "csi.example",
            "allowVolumeExpansion": True,
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    )
    assert (found.default, found.expandable, found.immediate) == (True, True, False)


def pod(volumes: list[Json], phase: str = "Running") -> Json:
    return {
        "metadata": {"name": "p", "uid": "u"},
        "spec": {"nodeName": "node-a", "volumes": volumes},
        "status": {"phase": phase},
    }


def test_pods_that_use_claims_are_told_with_ephemeral_ones() -> None:
    named: Json = {"name": "data", "persistentVolumeClaim": {"claimName": "chunks"}}
    ephemeral: Json = {"name": "scratch", "ephemeral": {}}
    found = pod_use(pod([named, ephemeral, {"name": "tmp", "emptyDir": {}}]))
    assert found is not None
    assert (found.claims, found.node, found.read_only) == (
        frozenset({"chunks", "p-scratch"}),
        "node-a",
        False,
    )
    assert pod_use(pod([{"name": "tmp", "emptyDir": {}}])) is None
    over = pod_use(pod([named], "Succeeded"))
    assert over is not None
    assert (found.ended, over.ended) == (False, True)
    assert pod_use({**pod([named], "Failed"), "spec": {"volumes": [named]}}) is None  # it was on no node


def test_a_node_tells_its_address_port_and_whether_it_answers() -> None:
    found = node_of(
        {
            "metadata": {"name": "node-a", "labels": {"kubernetes.io/hostname": "host-a"}},
            "status": {
                "conditions": [{"type": "Ready", "status": "Unknown", "lastTransitionTime": "then"}],
                "addresses": [
                    {"type": "Hostname", "address": "host-a"},
                    {"type": "InternalIP", "address": "10.0.0.1"},
                    {"type": "InternalIP", "address": "fd00::1"},
                ],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 10251}},
            },
        }
    )
    assert (found.ready, found.since, found.address, found.port, found.hostname) == (
        False,
        "then",
        "10.0.0.1",
        10251,
        "host-a",
    )


def test_attachments_of_inline_volumes_are_none_of_ours() -> None:
    spec = {"source": {"inlineVolumeSpec": {}}, "nodeName": "node-a"}
    assert attachment_of({"metadata": {}, "spec": spec}) is None


class Refusing:
    """An API server that says no."""

    def __init__(self, status: int, message: str) -> None:
        self._error = KubeApiError(status, "Forbidden", message)

    async def request(self, *_: object, **__: object) -> Json:
        raise self._error

    async def get(self, *_: object, **__: object) -> Json:
        raise self._error


class Recording:
    """An API server that takes every patch."""

    def __init__(self) -> None:
        self.patches: list[Json] = []

    async def patch(self, path: str, patch: Json) -> None:
        self.patches.append(patch)


@pytest.mark.parametrize(("grown", "noted"), [(True, {GROWN_TO: "12Gi"}), (False, None)])
async def test_a_claim_tells_that_it_grew_by_itself_and_nothing_of_a_declared_size(
    grown: bool, noted: dict[str, str] | None
) -> None:
    kube = Recording()
    await Claims(cast("Kube", kube)).expand(claim_of(claim()), 12 << 30, grown=grown)
    (patch,) = kube.patches
    assert patch["metadata"].get("annotations") == noted
    assert patch["spec"] == {"resources": {"requests": {"storage": "12Gi"}}}


QUOTA = (
    'persistentvolumeclaims "chunks" is forbidden: exceeded quota: disk, requested: requests.storage=11Gi,'
    " used: requests.storage=0, limited: requests.storage=10Gi"
)
RIGHTS = 'User "system:serviceaccount:a:b" cannot create resource "persistentvolumeclaims"'
RANGE = "maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 11Gi"


@pytest.mark.parametrize(
    ("status", "message", "reason", "words"),
    [
        (403, QUOTA, Reason.QUOTA_EXCEEDED, "limited: requests.storage=10Gi"),
        (403, RIGHTS, Reason.ACCESS_DENIED, "cannot create"),
        (403, RANGE, Reason.SERVER_REFUSED, "maximum storage usage"),
        (422, "spec.accessModes: Unsupported value", Reason.SERVER_REFUSED, "Unsupported"),
    ],
)
async def test_refusals_are_sentences_with_their_reason(
    status: int, message: str, reason: Reason, words: str
) -> None:
    claims = Claims(cast("Kube", Refusing(status, message)))
    with pytest.raises(LucidError) as refused:
        await claims.create(claim())
    assert refused.value.reason is reason
    assert words in refused.value.message


async def test_a_right_that_is_missing_is_named() -> None:
    claims = Claims(cast("Kube", Refusing(403, "no")))
    with pytest.raises(LucidError, match="may not read StorageClasses") as refused:
        await claims.classes()
    assert refused.value.reason is Reason.ACCESS_DENIED


@pytest.mark.parametrize("status", [0, 409, 500])
async def test_an_api_server_that_is_away_is_no_refusal(status: int) -> None:
    claims = Claims(cast("Kube", Refusing(status, "away")))
    with pytest.raises(KubeApiError):
        await claims.classes()
