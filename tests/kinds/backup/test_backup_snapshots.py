"""Snapshots of Backups: they go with the object until they are data, and then with the data only."""

from dataclasses import replace
from typing import Any

import pytest
from backup_builder import ID, NOW, UID, completed, ended, observed, resource, running, snapshot
from test_backup_deletion_tries import Cluster, hands

from lucid_storage.kinds.backup.actions import DropSnapshots, KeepSnapshots
from lucid_storage.kinds.backup.kind import BackupKind
from lucid_storage.kinds.backup.observed import CLEANING
from lucid_storage.kinds.backup.plan import plan
from lucid_storage.kinds.backup.snapshots import made_for, needless, outlives
from lucid_storage.kinds.backup.volumes import WantedSnapshot, snapshot_body, snapshot_name
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.kube.snapshots import Snapshot
from lucid_storage.models.backup import BackupEngine, BackupPhase, BackupStatus, EngineResult
from lucid_storage.models.meta import SCHEDULE

SCHEDULED = {SCHEDULE: "nightly"}


def done(**more: Any) -> BackupStatus:
    engine = EngineResult(engine=BackupEngine.VOLUMES, phase=BackupPhase.COMPLETED, in_cluster=True)
    return completed(engines=[engine], **more)


@pytest.mark.parametrize("annotations", [{}, SCHEDULED])
def test_what_a_backup_consists_of_outlives_it_before_it_can_be_deleted(annotations: dict[str, str]) -> None:
    made = resource(annotations=annotations, held=True)
    engine = {"engine": "volumes", "ok": True, "inCluster": True}
    result = ended(ok=True, id=ID, type="full", manifestSha256="ab", engines=[engine], verified="Checksum")
    first = plan(made, observed(made, worker=result, snapshots=True, owned=True), running(), NOW)
    assert (first.status.phase, first.hold) == (BackupPhase.COMPLETED, True)
    assert first.recheck_seconds is not None, "its finalizer stays until they are seen to"
    for going in (None, NOW):
        then = resource(annotations=annotations, held=True, deleted=going, status=first.status)
        kept = plan(then, observed(then, snapshots=True, owned=True), first.status, NOW)
        assert (kept.actions, kept.hold) == ((KeepSnapshots(),), True)
        last = plan(then, observed(then, snapshots=True), first.status, NOW)
        assert (last.actions, last.hold) == ((), False)


@pytest.mark.parametrize(
    ("others", "phase"), [((), BackupPhase.FAILED), (("mongodb",), BackupPhase.PARTIALLY_FAILED)]
)
def test_a_backup_found_again_without_its_snapshots_is_not_called_completed(
    others: tuple[str, ...], phase: BackupPhase
) -> None:
    """They went with the object whose worker was lost after its manifest, or with the cluster."""
    made = resource(held=True)
    engines = [{"engine": "volumes", "ok": True, "inCluster": True}]
    engines += [{"engine": name, "ok": True} for name in others]
    proof = {
        "verified": "Checksum",
        "verifyNote": "SnapshotOnly",
        "verifyMessage": "Inside the cluster alone.",
    }
    result = ended(ok=True, id=ID, type="full", manifestSha256="ab", engines=engines, **proof)
    step = plan(made, observed(made, worker=result), running(), NOW)
    assert step.status.phase is phase
    assert step.status.verified in (None, "VerifyFailed")
    assert step.said is not None
    assert "snapshots that it consists of are not in this cluster" in step.said.message
    assert plan(made, observed(made), step.status, NOW).hold is False, "nothing keeps it from being deleted"


def test_of_an_expired_backup_no_snapshot_is_left_whoever_was_killed_meanwhile() -> None:
    status = done(phase=BackupPhase.EXPIRED)
    for going in (None, NOW):
        made = resource(deletionPolicy="Delete", held=True, deleted=going, status=status)
        step = plan(made, observed(made, snapshots=True), status, NOW)
        assert (step.actions, step.hold) == ((DropSnapshots(),), True)
        assert plan(made, observed(made), status, NOW).hold is False


def test_a_backup_made_again_knows_the_snapshots_of_the_object_before_it() -> None:
    assert made_for(snapshot(), UID, None)
    assert made_for(snapshot(), "another", ID), "the id is that of the object which made them"
    assert not made_for(snapshot(), "another", None)
    assert not made_for(snapshot(), "another", "f3a2")


@pytest.mark.parametrize("in_cluster", [True, None])
def test_the_snapshots_go_with_the_data_of_a_deleted_backup(in_cluster: bool | None) -> None:
    engine = EngineResult(engine=BackupEngine.VOLUMES, phase=BackupPhase.COMPLETED, in_cluster=in_cluster)
    status = completed(engines=[engine])
    made = resource(deleted=NOW, held=True, deletionPolicy="Delete", status=status)
    gone = f'{{"run": "{status.run}", "ok": true, "removed": ["{status.id}"]}}'
    prune = WorkerState(WorkerPhase.ENDED, result=gone)
    step = plan(made, observed(made, prune=prune), status, NOW)
    assert (DropSnapshots() in step.actions) is bool(in_cluster)


def test_a_snapshot_of_a_backup_that_came_to_nothing_is_swept_and_no_other() -> None:
    def of(**status: Any) -> bool:
        return needless(replace(resource(), status=status))

    assert of(phase="Failed")
    assert of(phase="Cancelled")
    assert of(phase="Expired")
    engines = [{"engine": "volumes", "inCluster": True}]
    assert not of(phase="Failed", manifestSha256="ab", engines=engines)
    assert not of(phase="Completed", manifestSha256="ab", engines=engines)
    assert not of(phase="Running")
    assert not needless(None)  # its data outlive a Backup that is gone


def test_snapshots_of_a_backup_without_its_volumes_are_no_data() -> None:
    """The archive of another volume failed: nothing names what the storage took, and each night makes more."""
    made = resource(held=True)
    engines = [
        {"engine": "mongodb", "ok": True},
        {"engine": "volumes", "ok": False, "reason": "AccessDenied"},
    ]
    result = ended(ok=False, reason="PartiallyFailed", id=ID, manifestSha256="ab", engines=engines)
    status = plan(made, observed(made, worker=result), running(), NOW).status
    assert status.phase is BackupPhase.PARTIALLY_FAILED
    assert plan(made, observed(made, snapshots=True, owned=True), status, NOW).actions == ()
    over = resource(status=status)
    assert not outlives(snapshot(owned=True), over)
    assert needless(over)
    kept = resource(status=done(phase=BackupPhase.PARTIALLY_FAILED))
    assert outlives(snapshot(owned=True), kept)
    assert not needless(kept)


def test_a_snapshot_goes_with_its_backup_until_it_holds_its_data() -> None:
    wanted = WantedSnapshot(snapshot_name(UID, "data"), "data", "snap", there=False)
    owner = {"kind": "Backup"}
    assert snapshot_body("app", UID, wanted, owner)["metadata"]["ownerReferences"] == [owner]
    good = resource(status=done())
    assert outlives(snapshot(owned=True), good)
    assert not outlives(snapshot(owned=True), replace(resource(), status={"phase": "Running"}))
    assert not outlives(snapshot(owned=False), good)
    assert outlives(snapshot(owned=True), replace(good, annotations=SCHEDULED))
    assert not outlives(snapshot(owned=True), None)


def test_the_snapshots_of_a_deleted_backup_whose_data_stay_stay_too() -> None:
    """It is the last good one, or another builds on it: a later prune worker has them removed with its data."""
    status = done()
    kept = (
        f'{{"run": "{status.run}", "ok": true, "retained": [{{"id": "{status.id}", "because": "Needed."}}]}}'
    )
    prune, actions = WorkerState(WorkerPhase.ENDED, result=kept), []
    for _ in range(3):
        made = resource(deleted=NOW, held=True, deletionPolicy="Delete", status=status)
        step = plan(made, observed(made, prune=prune, snapshots=True), status, NOW)
        status, prune = step.status, observed().prune
        actions += step.actions
        assert not needless(resource(deleted=NOW, status=status))
    assert DropSnapshots() not in actions
    assert KeepSnapshots() in actions
    assert (step.hold, status.retained_because) == (False, "Needed.")


def test_what_once_kept_the_data_keeps_no_snapshot_when_they_are_gone() -> None:
    status = done(retained_because="Another builds on it.")
    gone = f'{{"run": "{status.run}", "ok": true, "removed": ["{status.id}"]}}'
    made = resource(deleted=NOW, held=True, deletionPolicy="Delete", status=status)
    step = plan(made, observed(made, prune=WorkerState(WorkerPhase.ENDED, result=gone)), status, NOW)
    assert (step.status.retained_because, DropSnapshots() in step.actions) == (None, True)


@pytest.mark.parametrize("kept", [False, True])
def test_of_a_cancelled_backup_that_was_written_in_time_the_snapshots_go_with_the_data(kept: bool) -> None:
    """Its worker was stopped while it was checking, so status knows nothing of them."""
    status = running(phase=BackupPhase.CANCELLED, progress=CLEANING)
    made = resource(held=True, status=status, cancel=True)
    assert not needless(made), "nobody knows yet"
    answer = {"retained": [{"id": ID, "because": "Needed."}]} if kept else {"removed": [ID]}
    step = plan(made, observed(made, prune=ended(ok=True, **answer)), status, NOW)
    assert (KeepSnapshots() in step.actions) is kept
    assert needless(resource(status=step.status)) is not kept


async def test_snapshots_of_a_cancelled_backup_whose_data_stay_are_kept_whoever_was_killed_before_that() -> (
    None
):
    """Its status was written, and nothing else: it names no engine that has snapshots."""
    status = running(phase=BackupPhase.CANCELLED, retained_because="Needed.")
    for going in (None, NOW):
        made = resource(held=True, status=status, cancel=True, deleted=going)
        seen = await looking(snapshot(owned=True)).observe(made, status, NOW)
        step = plan(made, seen, status, NOW)
        assert (step.actions, step.hold) == ((KeepSnapshots(),), True)
        seen = await looking(snapshot(owned=False)).observe(made, status, NOW)
        step = plan(made, seen, status, NOW)
        assert (step.actions, step.hold) == ((), False)
    assert outlives(snapshot(owned=True), resource(status=status))
    nothing = running(phase=BackupPhase.CANCELLED)
    assert not outlives(snapshot(owned=True), resource(status=nothing))


def looking(*there: Snapshot) -> BackupKind:
    class WithSnapshots(Cluster):
        async def of(self, *names: object) -> tuple[Snapshot, ...]:
            return there

    return hands(WithSnapshots())
