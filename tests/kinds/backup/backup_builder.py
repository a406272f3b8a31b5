"""Builds what a Backup's plan is made from; every test says only what matters to it."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from lucid_storage.kinds.backup.desired import BackupDesired, backup_id, job_name, resolve, run_id
from lucid_storage.kinds.backup.keeping import Keeping
from lucid_storage.kinds.backup.observed import BackupObserved
from lucid_storage.kinds.backup.volumes import snapshot_name
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.kube.snapshots import Snapshot
from lucid_storage.models.backup import BackupPhase, BackupSpec, BackupStatus
from lucid_storage.models.meta import OWNER_UID_LABEL
from lucid_storage.models.settings import Settings
from lucid_storage.stores.mongodb.types import Topology

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
UID = "7c1de0c4-9b5e-4a6f-8a52-3f6e4b8b1c11"
ID, RUN = backup_id(UID), run_id(UID)
STORES = {
    "MONGODB_URI": "mongodb://db/",
    "REDIS_URL": "redis://cache/",
    "ELASTICSEARCH_URL": "http://search/",
}
BUCKET = {"BACKUP_STORAGE_TYPE": "s3", "BACKUP_S3_BUCKET": "vault", "BACKUP_S3_ENDPOINT": "http://s3:9000"}


def settings(**variables: str) -> Settings:
    return Settings.read(
        {"POD_NAMESPACE": "system", "WORKER_IMAGE": "image:1", **STORES, **BUCKET, **variables}
    )


def served(**entry: Any) -> str:
    return json.dumps({"app": entry})


def resource(
    *,
    annotations: dict[str, str] | None = None,
    deleted: datetime | None = None,
    status: BackupStatus | None = None,
    held: bool = False,
    namespace: str = "app",
    **spec: Any,
) -> Resource:
    return Resource(
        key=Key("backups", namespace, "nightly"),
        uid=UID,
        generation=1,
        resource_version="1",
        created="2026-11-21T11:59:00Z",
        deleted=deleted.isoformat() if deleted else None,
        annotations=annotations or {},
        finalizers=("storage.lucid-blockchain.org/cleanup",) if held else (),
        spec={"type": "full", "verify": "Checksum", "deletionPolicy": "Retain", **spec},
        status=status.to_dict() if status else {},
    )


def desired(made: Resource | None = None, given: Settings | None = None, **spec: Any) -> BackupDesired:
    made = made or resource(**spec)
    given = given or settings(SERVED_NAMESPACES=served())
    return resolve(made, BackupSpec.model_validate(made.spec), given, given)


def observed(made: Resource | None = None, **more: Any) -> BackupObserved:
    made = made or resource()
    base = BackupObserved(
        desired=desired(made),
        cluster="cluster-1",
        topology=Topology.REPLICA_SET,
        identity="set-1",
        keeping=Keeping(30),
        prune_job=job_name(made, "prune"),
    )
    return replace(base, **more)


def running(**more: Any) -> BackupStatus:
    return BackupStatus(
        **{
            "phase": BackupPhase.RUNNING,
            "id": ID,
            "run": RUN,
            "job_name": "nightly-backup-1",
            "queued_at": NOW,
            "started_at": NOW,
            "server_identity": "set-1",
            **more,
        }
    )


def completed(**more: Any) -> BackupStatus:
    return running(
        **{
            "phase": BackupPhase.COMPLETED,
            "completed_at": NOW,
            "manifest_sha256": "ab",
            **more,
        }
    )


def worker(phase: WorkerPhase, message: str = "", **more: Any) -> WorkerState:
    return WorkerState(phase, message, **more)


def ended(**result: Any) -> WorkerState:
    return WorkerState(WorkerPhase.ENDED, result=json.dumps({"run": RUN, **result}))


def later(**span: float) -> datetime:
    return NOW + timedelta(**span)


def snapshot(**more: Any) -> Snapshot:
    base = Snapshot(
        namespace="app",
        name=snapshot_name(UID, "data"),
        uid="s",
        claim="data",
        class_name="snap",
        ready=True,
        taken_at=datetime(2026, 11, 21, tzinfo=UTC),
        restore_bytes=3 << 30,
        error="",
        labels={OWNER_UID_LABEL: UID},
    )
    return replace(base, **more)
