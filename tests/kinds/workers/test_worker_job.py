"""The Job of a worker: once, bounded, restricted, and without a word of a secret."""

from typing import Any

from lucid_storage.kinds.workers.job import Entry, Image, OwnerRef, WorkerJob, build, run_secret
from lucid_storage.models.backup import BackupEngine, BackupType
from lucid_storage.models.orders import BackupOrder, Destination, Owner

OWNER = OwnerRef("Backup", "storage.lucid-blockchain.org/v1alpha1", "app", "nightly", "uid-1")
RESOURCES = {"requests": {"memory": "96Mi"}, "limits": {"memory": "192Mi"}}
ORDER = BackupOrder(
    run="r1",
    owner=Owner(cluster="c", namespace="app", name="nightly", uid="uid-1", spec_hash="h"),
    destination=Destination(bucket="vault"),
    chain="manual",
    deadline_seconds=600,
    id="id-1",
    type=BackupType.FULL,
    engines=(BackupEngine.MONGODB,),
)


def worker(**more: Any) -> WorkerJob:
    return WorkerJob(
        **{
            "command": "backup",
            "name": "nightly-backup-r1",
            "namespace": "app",
            "owner": OWNER,
            "order": ORDER,
            "image": Image("image:1", "IfNotPresent", (), RESOURCES),
            "variables": {"MONGODB_URI": Entry("stores", "MONGODB_URI")},
            **more,
        }
    )


def pod_of(made: WorkerJob) -> Any:
    return build(made)["spec"]["template"]["spec"]


def test_it_runs_once_and_ends_in_time() -> None:
    spec = build(worker())["spec"]
    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (0, "Failed")
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] > ORDER.deadline_seconds
    assert "ttlSecondsAfterFinished" not in spec


def test_its_pod_meets_the_restricted_profile_and_has_no_token() -> None:
    pod = pod_of(worker(keys_secret="keys", claim="vault", ca=Entry("s3", "ca.crt")))
    [container] = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"] == {"memory": "192Mi"}
    kinds = {next(k for k in volume if k != "name") for volume in pod["volumes"]}
    assert kinds == {"emptyDir", "secret", "persistentVolumeClaim"}


def test_secrets_are_named_and_not_held() -> None:
    environment = {v["name"]: v for v in pod_of(worker())["containers"][0]["env"]}
    assert environment["MONGODB_URI"]["valueFrom"]["secretKeyRef"]["name"] == "stores"
    assert environment["MALLOC_ARENA_MAX"]["value"] == "2"
    order = BackupOrder.model_validate_json(environment["LUCID_ORDER"]["value"])
    assert order == ORDER


def test_it_is_found_by_its_owner() -> None:
    made = build(worker(namespace="system"))
    labels = made["metadata"]["labels"]
    assert labels["storage.lucid-blockchain.org/owner-uid"] == "uid-1"
    assert made["spec"]["template"]["metadata"]["labels"] == labels
    assert "ownerReferences" not in made["metadata"]
    assert build(worker())["metadata"]["ownerReferences"][0]["uid"] == "uid-1"


def test_the_secret_of_a_run_goes_with_its_job() -> None:
    job = build(worker())
    job["metadata"]["uid"] = "job-uid"
    secret = run_secret("nightly-backup-r1", "system", job, {"MONGODB_URI": "eA=="})
    assert secret["metadata"]["ownerReferences"] == [
        {"apiVersion": "batch/v1", "kind": "Job", "name": "nightly-backup-r1", "uid": "job-uid"}
    ]
