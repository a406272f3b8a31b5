"""Builds the manifests of a chain, with optimes in whole seconds after a fixed start."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from lucid_storage.archive.manifest import (
    BackupKind,
    Closing,
    EngineRecord,
    Manifest,
    MongoRecord,
    OplogPoint,
    Optime,
    Origin,
    Packing,
    Proof,
    ProofLevel,
    RetentionRules,
    Selection,
)
from lucid_storage.archive.recorded import Recorded, Trust

START = datetime(2026, 3, 1, tzinfo=UTC)
CLUSTER = "cluster-a"


def point(second: int, counter: int = 1, history: str = "") -> OplogPoint:
    """The entry at a second after the start; another `history` is another entry at the same time."""
    optime = Optime(seconds=int(START.timestamp()) + second, counter=counter, term=1)
    return OplogPoint(optime=optime, sha256=hashlib.sha256(f"{optime}{history}".encode()).hexdigest())


def moment(second: float) -> datetime:
    return START + timedelta(seconds=second)


def record(
    kind: BackupKind,
    record_id: str,
    *,
    to: OplogPoint | int | None,
    prev: OplogPoint | int | None = None,
    timeline: str = "t1",
    base: str | None = None,
    schedule: str | None = "nightly",
    passed: bool | None = True,
    trust: Trust = Trust.AUTHENTICATED,
    cluster: str = CLUSTER,
    identity: str = "rs-1",
    databases: tuple[str, ...] = (),
    engines: tuple[str, ...] = ("mongodb",),
    closing: Closing | None = None,
    rules: RetentionRules | None = None,
    retention_days: int | None = None,
    completed_at: datetime | None = None,
    key_id: str | None = None,
    fingerprint: str | None = None,
) -> Recorded:
    """One record. `passed` None leaves out the proof."""
    end = point(to) if isinstance(to, int) else to
    start = point(prev) if isinstance(prev, int) else prev
    if completed_at is None:
        completed_at = datetime.fromtimestamp(end.optime.seconds, UTC) if end is not None else START
    parts: tuple[EngineRecord, ...] = ()
    if end is not None:
        mongodb = MongoRecord(
            version="6.0.5", identity=identity, member="m:1", from_optime=end.optime, to=end
        )
        parts = (EngineRecord(engine="mongodb", taken_at=completed_at, mongodb=mongodb),)
    parts += tuple(EngineRecord(engine=e, taken_at=completed_at) for e in engines if e != "mongodb")
    manifest = Manifest(
        id=record_id,
        kind=kind,
        timeline=timeline,
        origin=Origin(cluster=cluster, namespace="ns", name=record_id, schedule=schedule, chain="main"),
        selection=Selection(engines=engines, databases=databases),
        packing=Packing(
            compression="zstd", encrypted=key_id is not None, key_id=key_id, key_fingerprint=fingerprint
        ),
        base=base,
        prev=start,
        engines=parts,
        closing=closing,
        retention=rules,
        retention_days=retention_days,
        started_at=completed_at,
        completed_at=completed_at,
        operator_version="0.1.0",
    )
    proof = None
    if passed is not None and kind is not BackupKind.SLICE:
        proof = Proof(id=record_id, level=ProofLevel.CHECKSUM, at=completed_at, seconds=1, passed=passed)
    return Recorded(manifest, trust, proof)


def full(record_id: str, to: int, **more: object) -> Recorded:
    return record(BackupKind.FULL, record_id, to=to, **more)  # type: ignore[arg-type]


def piece(prev: int, to: int, **more: object) -> Recorded:
    """A slice."""
    return record(BackupKind.SLICE, f"s{prev}-{to}", prev=prev, to=to, **more)  # type: ignore[arg-type]


def incremental(record_id: str, to: int, base: str, **more: object) -> Recorded:
    return record(BackupKind.INCREMENTAL, record_id, to=to, base=base, **more)  # type: ignore[arg-type]


def differential(record_id: str, prev: int, to: int, base: str, **more: object) -> Recorded:
    return record(BackupKind.DIFFERENTIAL, record_id, prev=prev, to=to, base=base, **more)  # type: ignore[arg-type]


def unproved(found: Recorded) -> Recorded:
    return replace(found, proof=None)


def found_damaged(found: Recorded) -> Recorded:
    """After a check that reads it, as a slice gets a proof only then."""
    ended = found.manifest.completed_at
    proof = Proof(id=found.id, level=ProofLevel.CHECKSUM, at=ended, seconds=1, passed=False)
    return replace(found, proof=proof)
