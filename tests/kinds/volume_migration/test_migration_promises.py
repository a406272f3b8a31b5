"""What a migration promises besides moving the data: who is waited for, what is taken back, what is refused."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from migration_bed import Ground, Place, crawl, held, moved, place, played_ground, says, target

from lucid_storage.errors import Reason
from lucid_storage.kinds.volume.migration import settling
from lucid_storage.kinds.volume.migration.journal import names
from lucid_storage.kinds.workers.launch import WorkerRequest
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.kube.claims import claim_path
from lucid_storage.kube.client import Json, KubeApiError
from lucid_storage.models.meta import RELEASE_OLD_VOLUME, RUN_AGAIN
from lucid_storage.models.orders import Progress
from lucid_storage.models.volume_work import VolumeCopyResult


@pytest.fixture
async def land() -> AsyncIterator[Ground]:
    made = await played_ground()
    yield made
    await made.close()


def ready(status: Json) -> Json:
    return next(c for c in status["conditions"] if c["type"] == "Ready")


async def deleting(there: Place) -> bool:
    claim = await there.claim()
    return claim is not None and "deletionTimestamp" in claim["metadata"]


async def untouched(there: Place) -> None:
    """The claim is as it was, and nothing of the migration is left."""
    claim = await there.claim()
    assert claim is not None
    assert "deletionTimestamp" not in claim["metadata"]
    assert claim["status"]["phase"] == "Bound"
    assert await there.claims() == ["data"]
    volume = await there.ground.pv(claim["spec"]["volumeName"])
    assert volume is not None
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    assert not [n for n in volume["metadata"].get("annotations") or {} if "migration" in n]
    assert (there.source / "folder/file").read_text() == "data"


# Who is waited for


async def test_nothing_begins_while_a_pod_uses_the_claim_and_the_pod_is_named(land: Ground) -> None:
    there = await place(land)
    await there.pod("writer")
    await there.born()
    for _ in range(3):
        await there.look()
    condition = ready(await there.status())
    assert condition["reason"] == Reason.CLAIM_IN_USE
    assert "these do: writer." in condition["message"]
    assert (await there.status())["usedBy"] == ["writer"]
    assert await there.claims() == ["data"]
    await there.end_pod("writer")
    await there.settled()
    await moved(there)


async def test_a_pod_that_starts_during_the_copy_stops_the_switch_and_nothing_else(land: Ground) -> None:
    there = await place(land)
    await there.born()

    async def started(_: WorkerRequest) -> None:
        there.copies.before = None
        await there.pod("early-bird")

    there.copies.before = started
    await there.until(lambda: says(there, "early-bird"), "the pod to be named")
    assert "The data are copied" in (await there.status())["message"]
    assert not await deleting(there)
    (there.source / "written-meanwhile").write_text("kept")
    await there.end_pod("early-bird")
    await there.settled()
    await moved(there)
    assert (await target(there) / "written-meanwhile").read_text() == "kept"


async def test_a_pod_that_slips_in_before_the_claim_is_taken_keeps_it_and_loses_nothing(land: Ground) -> None:
    """Kubernetes holds the old claim for it; what it writes until its end is in the new volume."""
    there = await place(land)
    await crawl(there, lambda: held(there))
    await there.pod("late")
    await land.kube.request("DELETE", claim_path(there.namespace, "data"))
    await there.born()
    await there.until(lambda: says(there, "these pods still use it: late"), "the pod to be named")
    (there.source / "written-late").write_text("kept")
    (there.source / "other").unlink()
    await there.end_pod("late")
    await there.settled()
    folder = await target(there)
    assert (folder / "written-late").read_text() == "kept"
    assert not (folder / "other").exists()


async def test_a_pod_that_has_ended_is_named_before_the_claim_is_taken_out_of_use(land: Ground) -> None:
    there = await place(land)
    await there.pod("over", phase="Failed")
    await there.born()
    await there.until(lambda: says(there, "until they are deleted: over. Delete them"), "the pod to be named")
    assert ready(await there.status())["reason"] == Reason.CLAIM_IN_USE
    assert not await deleting(there)
    await there.end_pod("over")
    await there.settled()
    await moved(there)


async def test_a_pod_on_a_node_that_is_away_is_named_with_its_node(land: Ground) -> None:
    there = await place(land)
    silent = {"type": "Ready", "status": "Unknown", "lastTransitionTime": "2026-11-21T11:50:00Z"}
    node = {"metadata": {"name": "no-such-node"}, "status": {"conditions": [silent]}}
    await land.kube.request("POST", "/api/v1/nodes", body=node)
    await there.pod("stuck")
    await there.born()
    await there.look()
    condition = ready(await there.status())
    assert condition["reason"] == Reason.CLAIM_IN_USE
    assert "these do: stuck. The pod stuck uses the volume on the node no-such-node" in condition["message"]
    assert "has not answered since 2026-11-21T11:50:00Z" in condition["message"]


async def test_a_class_that_is_deleted_before_it_made_the_new_volume_is_told_and_waited_for(
    land: Ground,
) -> None:
    there = await place(land, target=False)
    await there.born()
    await there.until(lambda: started(there), "the copy to be asked for")
    classes = "/apis/storage.k8s.io/v1/storageclasses"
    await land.kube.request("DELETE", f"{classes}/{land.new_class}")
    await there.until(lambda: says(there, f'There is no storage class "{land.new_class}"'), "the reason")
    assert ready(await there.status())["reason"] == Reason.CLASS_NOT_FOUND
    provisioner = {"provisioner": "kubernetes.io/no-provisioner"}
    await land.kube.request("POST", classes, body={"metadata": {"name": land.new_class}, **provisioner})
    await land.volume(f"late-{there.namespace}", land.new_class)
    await there.settled()
    await moved(there)


async def started(there: Place) -> bool:
    return bool(there.copies.started)


async def test_a_worker_whose_job_was_deleted_ends_before_the_next_one_begins(land: Ground) -> None:
    """Its pod lives on for a while, and two that write to one volume could spoil what the other one has compared."""
    there = await place(land)
    await there.born()

    async def job_deleted(request: WorkerRequest) -> None:
        there.copies.before = None
        await there.pod("former", names("data", request.order.run).new_claim, owner=request.owner.uid)
        key = f"{request.owner.namespace}/{request.name}"
        there.copies.stops[key].event.set()
        there.copies.results.pop(key)

    there.copies.before = job_deleted
    await there.until(lambda: says(there, "when the pod former has ended"), "the pod to be waited for")
    for _ in range(3):
        await there.look()
    assert len(there.copies.started) == 1
    await there.end_pod("former")
    await there.settled()
    await moved(there)


# What is taken back


async def test_a_declaration_that_is_taken_back_leaves_the_claim_as_it_was(land: Ground) -> None:
    there = await place(land)
    await there.born()

    async def regretted(_: WorkerRequest) -> None:
        there.copies.before = None
        await there.change({"spec": {"storageClassName": land.old_class}})

    there.copies.before = regretted
    await there.step("Failed")

    async def bound() -> bool:
        status = await there.status()
        return status["phase"] == "Bound" and ready(status)["status"] == "True"

    await there.until(bound, "the Volume to be as it was")
    await untouched(there)
    assert [e for e in there.events if e.startswith("Migrat")] == ["MigrationStarted", "MigrationStopped"]


async def test_a_volume_that_is_deleted_before_the_switch_takes_everything_back(land: Ground) -> None:
    there = await place(land)
    await crawl(there, lambda: prepared(there))
    await delete_volume(there)
    await there.born()
    await there.until(lambda: gone(there), "the Volume to be gone")
    await untouched(there)


async def test_a_volume_that_is_deleted_in_the_switch_is_held_until_the_claim_is_back(land: Ground) -> None:
    there = await place(land)
    await crawl(there, lambda: deleting(there))
    await delete_volume(there)
    await there.born()
    await there.until(lambda: gone(there), "the Volume to be gone")
    claim = await there.claim()
    assert claim is not None
    assert claim["spec"]["storageClassName"] == land.new_class
    assert (await target(there) / "folder/file").read_text() == "data"
    assert (there.source / "folder/file").read_text() == "data"


async def test_a_namespace_that_is_deleted_in_the_switch_is_not_held_and_both_volumes_stay(
    land: Ground,
) -> None:
    there = await place(land)
    await crawl(there, lambda: deleting(there))
    journal = await there.migration()
    await terminate(there)
    await delete_volume(there)
    await there.born()
    await there.until(lambda: gone(there), "the Volume to be gone")
    assert "data" not in await there.claims()
    for name in (journal["oldVolume"], journal["newVolume"]):
        volume = await land.pv(name)
        assert volume is not None
        assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


async def test_a_copy_that_fails_is_said_and_not_tried_again_until_something_changes(land: Ground) -> None:
    there = await place(land)
    there.copies.refuse = lambda request: failing(
        request, Reason.ACCESS_DENIED, "7 or more files cannot be read."
    )
    await there.born()
    await there.until(lambda: says(there, "7 or more files"), "the failure to be said")

    async def clean() -> bool:
        return bool((await there.migration()).get("cleaned"))

    await there.until(clean, "everything to be taken back")
    await untouched(there)
    for _ in range(5):
        await there.look()
    status = await there.status()
    assert ready(status)["reason"] == Reason.ACCESS_DENIED
    assert RUN_AGAIN in ready(status)["message"]
    assert len(there.copies.started) == 1
    there.copies.refuse = lambda request: None
    await land.volume(f"again-{there.namespace}", land.new_class)
    await there.change({"spec": {"copy": {"runAsUser": 999}}})
    await there.settled()
    await moved(there)


async def test_a_lost_worker_is_replaced_a_bounded_number_of_times(land: Ground) -> None:
    there = await place(land)
    there.copies.refuse = lambda request: WorkerState(WorkerPhase.LOST, "its pod is gone", over=True)
    await there.born()
    await there.until(lambda: says(there, "The worker was lost"), "the failure to be said")
    assert len(there.copies.started) == 3
    await land.volume(f"again-{there.namespace}", land.new_class)
    await there.change({"metadata": {"annotations": {RUN_AGAIN: "1"}}})
    there.copies.refuse = lambda request: None
    await there.settled()


def at(percent: int, phase: str = "Copying") -> WorkerState:
    progress = Progress(phase=phase, total_bytes=1000, done_bytes=10 * percent)
    return WorkerState(WorkerPhase.RUNNING, progress=progress)


LOST = WorkerState(WorkerPhase.LOST, "its node is drained", over=True)
OVERDUE = WorkerState(WorkerPhase.LOST, "it did not end within its deadline", overdue=True, over=True)
CANCELLED = WorkerState(WorkerPhase.ENDED)
"""Its result is made when its run is known."""


@pytest.mark.parametrize("end", [LOST, OVERDUE, CANCELLED], ids=["drained", "overdue", "told to stop"])
async def test_a_worker_that_came_further_than_those_before_it_is_always_followed_by_another(
    land: Ground, end: WorkerState
) -> None:
    """What is copied is not thrown away because a large volume outlives the nodes that it is copied on."""
    there = await place(land)
    await there.born()
    for seen in (at(4), at(30), at(90), at(10, "Verifying"), at(70, "Verifying")):
        await worker_is(there, seen)
        await worker_is(there, end)
    assert (await there.migration())["attempts"] == 1
    await worker_is(there, at(8))
    await worker_is(there, end)
    assert (await there.migration())["attempts"] == 2, "it came less far"
    there.copies.refuse = lambda request: None
    await there.settled()
    await moved(there)
    assert "reached" not in await there.migration()


async def worker_is(there: Place, state: WorkerState) -> None:
    """Look until this is seen of the worker that copies, and once more."""
    there.copies.refuse = lambda request: WorkerState(WorkerPhase.WAITING, "its pod is starting")

    async def begun() -> bool:
        return bool(there.copies.results)

    await there.until(begun, "a worker")
    await asyncio.sleep(0)
    (key,) = there.copies.results
    if state is CANCELLED:
        run = (await there.migration())["run"]
        said = VolumeCopyResult(run=run, ok=False, reason=Reason.CANCELLED, message="It was told to stop.")
        state = replace(state, result=said.model_dump_json(by_alias=True))
    there.copies.results[key] = state
    before = len(there.copies.started)
    await there.look()
    if state.phase is not WorkerPhase.RUNNING:

        async def followed() -> bool:
            return len(there.copies.started) > before

        await there.until(followed, "the next worker", 10)


async def test_the_last_look_that_fails_is_tried_again_until_it_succeeds(
    land: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the switch on nothing is given up."""
    monkeypatch.setattr(settling, "FIRST_RETRY", timedelta(milliseconds=5))
    there = await place(land)
    failures = iter(range(5))

    def refuse(request: WorkerRequest) -> WorkerState | None:
        if "settle" in request.name and next(failures, None) is not None:
            return WorkerState(WorkerPhase.LOST, "its node is gone", over=True)
        return None

    there.copies.refuse = refuse
    await there.born()
    await there.settled()
    await moved(there)
    assert len([n for n in there.copies.started if "settle" in n]) == 6


async def test_a_claim_that_somebody_deletes_during_the_copy_ends_it_and_keeps_its_volume(
    land: Ground,
) -> None:
    """Under the policy Delete its volume would go; one that was made safe stays."""
    there = await place(land)
    await crawl(there, lambda: prepared(there))
    await land.kube.request("DELETE", claim_path(there.namespace, "data"))
    await there.born()

    async def cleaned() -> bool:
        return bool((await there.migration()).get("cleaned"))

    await there.until(cleaned, "the migration to end")
    assert (there.source / "folder/file").read_text() == "data"
    assert (await there.migration())["reason"] == Reason.CLAIM_LOST


# What is refused


async def test_a_quota_that_is_too_small_is_said_before_anything_happens(land: Ground) -> None:
    there = await place(land)
    await there.born()
    assert there.kube is not None
    post = there.kube.request

    async def refusing(method: str, path: str, **rest: object) -> Json:
        if method == "POST" and path.endswith("persistentvolumeclaims") and not allowed:
            raise KubeApiError(403, "Forbidden", "exceeded quota: small, requested: 1Gi, limited: 1Gi")
        return await post(method, path, **rest)  # type: ignore[arg-type]

    allowed: list[bool] = []
    there.kube.request = refusing  # type: ignore[method-assign, assignment]
    for _ in range(4):
        await there.look()
    condition = ready(await there.status())
    assert condition["reason"] == Reason.QUOTA_EXCEEDED
    assert "small" in condition["message"]
    await untouched(there)
    allowed.append(True)
    await there.change({"spec": {"thresholds": {"warningPercent": 70}}})
    await there.settled()
    await moved(there)


async def test_block_devices_and_unknown_classes_are_refused(land: Ground) -> None:
    there = await place(land)
    await there.born()
    await there.change({"spec": {"storageClassName": "no-such-class"}})
    await there.look()
    assert ready(await there.status())["reason"] == Reason.CLASS_NOT_FOUND
    await land.kube.patch(claim_path(there.namespace, "data"), {"spec": {"volumeMode": "Block"}})
    await there.look()
    condition = ready(await there.status())
    assert condition["reason"] == Reason.NOT_SUPPORTED
    assert "block device" in condition["message"]


async def test_a_paused_volume_does_not_begin(land: Ground) -> None:
    there = await place(land)
    await there.change({"metadata": {"annotations": {"storage.lucid-blockchain.org/paused": "true"}}})
    await there.born()
    await there.look()
    assert ready(await there.status())["reason"] == Reason.PAUSED
    assert await there.claims() == ["data"]


async def test_a_right_that_is_missing_is_said_and_the_migration_is_held(land: Ground) -> None:
    """In the switch too: the Volume may not go while its claim is away."""
    there = await place(land)
    await crawl(there, lambda: deleting(there))
    await there.born()
    assert there.kube is not None
    send = there.kube.patch
    denied = [True]

    async def refusing(path: str, patch: Any, content_type: str = "") -> Json | None:
        if denied and "persistentvolumes" in path:
            raise KubeApiError(403, "Forbidden", 'User "operator" cannot patch resource "persistentvolumes"')
        return await send(path, patch)

    there.kube.patch = refusing  # type: ignore[method-assign]
    await there.until(lambda: says(there, "may not change PersistentVolumes"), "it to be said", 5)
    body = await there.body()
    assert body is not None
    assert body["metadata"]["finalizers"]
    denied.clear()
    await there.settled()
    await moved(there)


# Others who act at the same time


async def test_a_claim_that_somebody_makes_in_the_gap_gets_the_new_volume(land: Ground) -> None:
    """As a StatefulSet or a GitOps tool would; it has the old class in its manifest."""
    there = await place(land)

    async def vacant() -> bool:
        return (await there.migration()).get("step") == "Switching" and "data" not in await there.claims()

    await crawl(there, vacant)
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": land.old_class,
        "resources": {"requests": {"storage": "1Gi"}},
    }
    body = {"metadata": {"name": "data", "labels": {"app": "from-git"}}, "spec": spec}
    await land.kube.request("POST", claim_path(there.namespace), body=body)
    await there.born()

    async def completed() -> bool:
        return (await there.migration()).get("step") == "Completed"

    await there.until(completed, "the migration to be over")
    claim = await there.claim()
    assert claim is not None
    assert claim["spec"]["volumeName"] == (await there.migration())["newVolume"]
    assert claim["metadata"]["labels"]["app"] == "from-git"
    assert claim["metadata"]["annotations"]["example.org/note"] == "kept"
    await there.look()
    condition = ready(await there.status())
    assert condition["reason"] == Reason.CONFLICT
    assert "Write the new class into the manifest" in condition["message"]
    assert len(there.copies.started) == 2, "and is not moved again and again"


async def test_the_owners_of_the_old_claim_own_the_new_one(land: Ground) -> None:
    there = await place(land)
    owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "1234"}
    await land.kube.patch(claim_path(there.namespace, "data"), {"metadata": {"ownerReferences": [owner]}})
    await there.born()
    await there.settled()
    claim = await there.claim()
    assert claim is not None
    assert claim["metadata"]["ownerReferences"] == [owner]


async def test_a_policy_that_somebody_changes_back_in_the_switch_is_set_again(land: Ground) -> None:
    there = await place(land)
    await crawl(there, lambda: deleting(there))
    journal = await there.migration()
    patch = {"spec": {"persistentVolumeReclaimPolicy": "Delete"}}
    for name in (journal["oldVolume"], journal["newVolume"]):
        await land.kube.patch(f"/api/v1/persistentvolumes/{name}", patch)
    await there.born()
    await there.settled()
    await moved(there)


async def test_a_volume_that_somebody_deletes_in_the_switch_is_said_and_the_other_one_is_kept(
    land: Ground,
) -> None:
    there = await place(land)
    await crawl(there, lambda: deleting(there))
    journal = await there.migration()
    await land.kube.request("DELETE", f"/api/v1/persistentvolumes/{journal['oldVolume']}")
    await there.born()
    await there.until(lambda: says(there, "is kept and has a whole copy"), "it to be said")
    new = await land.pv(journal["newVolume"])
    assert new is not None
    assert new["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


async def test_a_volume_that_is_made_anew_in_the_switch_finds_the_journal(land: Ground) -> None:
    """Its own object was removed by force; the claim would be held for ever."""
    there = await place(land)
    await crawl(there, lambda: deleting(there))
    await there.change({"metadata": {"finalizers": []}})
    await delete_volume(there)
    assert await gone(there)
    await there.declare(storageClassName=land.new_class)
    await there.born()
    await there.settled()
    await moved(there)
    assert "MigrationFound" in there.events


async def test_a_claim_that_was_adopted_stays_adopted(land: Ground) -> None:
    """Nothing may be deleted with the Volume that was there before it."""
    there = await place(land)
    await there.born()
    await there.settled()
    assert (await there.status())["origin"] == "Adopted"
    await there.change({"spec": {"deletionPolicy": "Delete"}})
    await delete_volume(there)
    await there.until(lambda: gone(there), "the Volume to be gone")
    assert (await target(there) / "folder/file").read_text() == "data"


# Afterwards


async def test_the_old_volume_goes_when_it_is_released_and_not_before(land: Ground) -> None:
    there = await place(land)
    await there.born()
    await there.settled()
    old = (await there.status())["keptVolume"]
    await there.change({"metadata": {"annotations": {RELEASE_OLD_VOLUME: "another"}}})
    await there.look()
    assert there.source.exists()
    await there.change({"metadata": {"annotations": {RELEASE_OLD_VOLUME: old}}})
    await there.look()
    assert not there.source.exists(), "its policy was Delete"
    assert await land.pv(old) is None
    await there.look()
    status = await there.status()
    assert "keptVolume" not in status
    assert "OldVolumeKept" not in {condition["type"] for condition in status["conditions"]}
    assert (await target(there) / "folder/file").read_text() == "data"


async def test_an_old_volume_whose_policy_was_retain_stays_when_it_is_released(land: Ground) -> None:
    there = await place(land, policy="Retain")
    await there.born()
    await there.settled()
    old = (await there.status())["keptVolume"]
    await there.change({"metadata": {"annotations": {RELEASE_OLD_VOLUME: old}}})
    await there.look()
    volume = await land.pv(old)
    assert volume is not None
    assert not [n for n in volume["metadata"].get("annotations") or {} if "migration" in n]
    assert (there.source / "folder/file").read_text() == "data"


async def test_a_volume_that_was_moved_can_be_moved_again(land: Ground) -> None:
    there = await place(land)
    await there.born()
    await there.settled()
    first = (await there.status())["keptVolume"]
    shutil.rmtree(there.source)
    there.source = await target(there)
    await land.volume(f"third-{there.namespace}", land.old_class)
    await there.change({"spec": {"storageClassName": land.old_class}})

    async def back() -> bool:
        journal = await there.migration()
        return journal.get("step") == "Completed" and journal["oldVolume"] != first

    await there.until(back, "the second migration to be over")
    assert (await target(there) / "folder/file").read_text() == "data"
    for name in (first, (await there.status())["keptVolume"]):
        volume = await land.pv(name)
        assert volume is not None
        assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


async def prepared(there: Place) -> bool:
    """Both volumes are retained, and nothing is switched yet."""
    journal = await there.migration()
    names = [journal.get("oldVolume"), journal.get("newVolume")]
    volumes = [await there.ground.pv(name) for name in names if name]
    kept = [v for v in volumes if v and v["spec"]["persistentVolumeReclaimPolicy"] == "Retain"]
    return len(kept) == 2 and journal["step"] == "Verifying"


async def delete_volume(there: Place) -> None:
    path = f"/apis/storage.lucid-blockchain.org/v1alpha1/namespaces/{there.namespace}/volumes/data"
    await there.ground.kube.request("DELETE", path)


async def terminate(there: Place) -> None:
    path = f"/api/v1/namespaces/{there.namespace}/status"
    await there.ground.kube.patch(path, {"status": {"phase": "Terminating"}})
    for name in await there.claims():
        await there.ground.kube.request("DELETE", claim_path(there.namespace, name))


async def gone(there: Place) -> bool:
    return await there.body() is None


def failing(request: WorkerRequest, reason: Reason, message: str) -> WorkerState:
    result = VolumeCopyResult(run=request.order.run, ok=False, reason=reason, message=message)
    return WorkerState(WorkerPhase.ENDED, result=result.model_dump_json(by_alias=True))
