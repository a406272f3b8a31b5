"""Jobs and pods as the API server shows them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from lucid_storage.kube.client import Json

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def ago(**span: float) -> str:
    return (NOW - timedelta(**span)).isoformat()


def job(*conditions: Json, suspend: bool = False, made: str | None = None, **meta: Any) -> Json:
    made = made or ago(seconds=5)
    return {
        "metadata": {"name": "j", "namespace": "app", "uid": "u-1", "creationTimestamp": made, **meta},
        "spec": {"suspend": suspend},
        "status": {"startTime": made, "conditions": list(conditions)},
    }


def condition(kind: str, reason: str = "", message: str = "", value: str = "True") -> Json:
    return {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": message,
        "lastTransitionTime": ago(seconds=1),
    }


def pod(
    state: Json | None = None,
    *,
    phase: str = "Pending",
    made: str | None = None,
    deleted: str | None = None,
    job_uid: str = "u-1",
    controller: bool = True,
    **status: Any,
) -> Json:
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": job_uid, "controller": controller}
    meta: Json = {
        "name": "j-abcde",
        "creationTimestamp": made or ago(seconds=4),
        "ownerReferences": [owner],
    }
    if deleted is not None:
        meta["deletionTimestamp"] = deleted
    statuses = [{"state": state}] if state is not None else []
    return {"metadata": meta, "status": {"phase": phase, "containerStatuses": statuses, **status}}


def terminated(code: int = 0, message: str = "", reason: str = "Completed") -> Json:
    return {"terminated": {"exitCode": code, "message": message, "reason": reason}}


def waiting(reason: str, message: str = "") -> Json:
    return {"waiting": {"reason": reason, "message": message}}
