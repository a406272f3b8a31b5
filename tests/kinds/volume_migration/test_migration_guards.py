"""What a migration does not believe, does not begin, and does not try without a pause."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from migration_bed import Ground, Place, crawl, held, moved, place, played_ground, says

from lucid_storage.errors import Reason
from lucid_storage.kinds.volume.migration import settling
from lucid_storage.kinds.volume.migration.journal import names
from lucid_storage.kinds.volume.migration.observed import Answer, Case
from lucid_storage.kinds.volume.migration.working import cleared
from lucid_storage.kinds.volume.observed import VolumeObserved
from lucid_storage.kinds.workers.launch import WorkerRequest
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.kube.claims import claim_path
from lucid_storage.kube.client import Json, resource_path
from lucid_storage.kube.resources import Resource
from lucid_storage.kube.storage import Class, PodUse
from lucid_storage.models.meta import API_VERSION, FINALIZER, GIVE_UP_MIGRATION, MIGRATION
from lucid_storage.models.volume import VolumeStatus
from lucid_storage.models.volume_work import VolumeCopyResult

APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@pytest.fixture
async def land() -> AsyncIterator[Ground]:
    made = await played_ground()
    yield made
    await made.close()


def too_small(request: WorkerRequest) -> WorkerState:
    said = "The new volume is too small (it is full); set a larger spec.size."
    result = VolumeCopyResult(run=request.order.run, ok=False, reason=Reason.NOT_ENOUGH_SPACE, message=said)
    return WorkerState(WorkerPhase.ENDED, result=result.model_dump_json(by_alias=True))


async def forge(there: Place, journal: Json) -> None:
    path = f"/apis/storage.lucid-blockchain.org/v1alpha1/namespaces/{there.namespace}/volumes/data/status"
    await there.ground.kube.patch(path, {"status": {"migration": journal}})


@pytest.mark.parametrize("switched", [False, True])
@pytest.mark.parametrize("foreign", ["oldVolume", "newVolume"])
async def test_a_status_that_names_the_volume_of_another_namespace_moves_nothing_and_is_put_right(
    land: Ground, foreign: str, switched: bool
) -> None:
    """Before the volumes know of the switch nothing was done, and it begins anew; then they tell how far it is."""
    victim, there = await place(land), await place(land)
    await crawl(there, lambda: held(there) if switched else at_switch(there))
    journal = await there.migration()
    theirs = f"old-{victim.namespace.removeprefix('move-')}"
    before = await land.pv(theirs)
    await forge(there, {**journal, foreign: theirs, "newReclaimPolicy": "Delete"})
    await there.born()
    await there.settled()
    await moved(there)
    assert await land.pv(theirs) == before
    assert ("MigrationFound" if switched else "MigrationStopped") in there.events


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_status_that_tells_of_a_switch_that_never_was_is_struck_out(
    land: Ground, deleted: bool
) -> None:
    """And holds no Volume that is deleted."""
    victim, there = await place(land), await place(land)
    await there.change({"spec": {"storageClassName": land.old_class}})
    theirs = f"old-{victim.namespace.removeprefix('move-')}"
    before = await land.pv(theirs)
    status = {"run": "0123456789", "step": "Switching", "oldVolume": theirs, "newVolume": "nowhere"}
    await there.born()
    await there.look()
    await there.change({"metadata": {"finalizers": [FINALIZER]}})
    await forge(there, status)
    if deleted:
        await land.kube.request("DELETE", resource_path("volumes", there.namespace, "data"))
        await there.until(lambda: gone(there), "the Volume to be gone")
    else:
        await there.until(lambda: struck_out(there), "the status to be put right")
    assert "MigrationStopped" in there.events
    claim = await there.claim()
    assert claim is not None
    assert "deletionTimestamp" not in claim["metadata"]
    assert await land.pv(theirs) == before


@pytest.mark.parametrize("which", ["oldVolume", "newVolume"])
async def test_a_volume_whose_journal_somebody_took_off_gets_it_again(land: Ground, which: str) -> None:
    there = await place(land)
    await crawl(there, lambda: at_switch(there))
    path = f"/api/v1/persistentvolumes/{(await there.migration())[which]}"
    await land.kube.patch(path, {"metadata": {"annotations": {MIGRATION: None}}})
    await there.born()
    await there.settled()
    await moved(there)


async def test_a_claim_that_is_held_without_a_journal_is_not_let_go_and_the_way_is_said(land: Ground) -> None:
    """Under the policy Delete its volume would go."""
    there = await place(land)
    await crawl(there, lambda: held(there))
    await land.kube.request("DELETE", claim_path(there.namespace, "data"))
    journal = await there.migration()
    for which in ("oldVolume", "newVolume"):
        path = f"/api/v1/persistentvolumes/{journal[which]}"
        patch = {"metadata": {"annotations": {MIGRATION: None}}}
        await land.kube.patch(path, {**patch, "spec": {"persistentVolumeReclaimPolicy": "Delete"}})
    await there.born()
    await there.until(lambda: says(there, "then remove the finalizer"), "the way out to be said")
    assert (there.source / "folder/file").read_text() == "data"
    await land.kube.patch(
        f"/api/v1/persistentvolumes/{journal['oldVolume']}",
        {"spec": {"persistentVolumeReclaimPolicy": "Retain"}},
    )
    await land.kube.patch(claim_path(there.namespace, "data"), {"metadata": {"finalizers": []}})
    await there.until(lambda: struck_out(there), "the migration to be over")
    assert (there.source / "folder/file").read_text() == "data"


# Pods that have the migration's own claims


@pytest.mark.parametrize("of", ["new_claim", "keeper"])
async def test_a_pod_that_writes_into_the_copy_is_waited_for_and_all_is_copied_anew(
    land: Ground, of: str
) -> None:
    there = await place(land)
    await there.born()
    seen: list[Path] = []

    async def sneaks_in(request: WorkerRequest) -> None:
        there.copies.before = None
        claim = getattr(names("data", request.order.run), of)
        await there.pod("stranger", claim)
        body = await there.claim(claim)
        if of == "new_claim" and body is not None:
            volume = await land.pv(body["spec"]["volumeName"])
            assert volume is not None
            seen.append(Path(volume["spec"]["hostPath"]["path"]))

    there.copies.before = sneaks_in
    await there.until(lambda: says(there, "stranger"), "the pod to be named")
    for folder in seen:
        (folder / "other").write_text("spoiled")
    await there.end_pod("stranger")
    await there.settled()
    await moved(there)


async def test_a_forged_policy_is_not_given_to_a_volume(land: Ground) -> None:
    there = await place(land, policy="Retain")
    await crawl(there, lambda: at_switch(there))
    await forge(
        there, {**await there.migration(), "newReclaimPolicy": "Retain", "oldReclaimPolicy": "Delete"}
    )
    await there.born()
    await there.settled()
    await moved(there)


async def test_data_that_grew_while_a_pod_used_the_claim_are_met_before_the_switch(land: Ground) -> None:
    there = await place(land)
    await there.born()

    async def started(_: WorkerRequest) -> None:
        there.copies.before = None
        await there.pod("early-bird")

    there.copies.before = started
    await there.until(lambda: says(there, "early-bird"), "the pod to be named")
    there.copies.refuse = too_small
    await there.end_pod("early-bird")
    await there.step("Failed")
    claim = await there.claim()
    assert claim is not None
    assert "deletionTimestamp" not in claim["metadata"]
    assert (await there.migration())["reason"] == Reason.NOT_ENOUGH_SPACE


async def test_a_last_look_that_finds_no_room_waits_and_says_the_way_out(land: Ground) -> None:
    there = await place(land)
    there.copies.refuse = lambda request: too_small(request) if "settle" in request.name else None
    await there.born()
    await there.until(lambda: says(there, "give the migration up"), "the way out to be said")
    for _ in range(10):
        await there.look()
    message = (await there.status())["message"]
    assert f"{GIVE_UP_MIGRATION}: {(await there.migration())['run']}" in message
    assert "spec.size" not in message
    assert len([name for name in there.copies.started if "settle" in name]) == 1


def test_a_check_of_the_content_is_waited_for_and_the_copy_is_not() -> None:
    body = {
        "apiVersion": API_VERSION,
        "kind": "Volume",
        "metadata": {"name": "data", "namespace": "a", "uid": "u"},
    }
    resource = Resource.from_body("volumes", {**body, "spec": {}})
    status = VolumeStatus.model_validate({"migration": {"run": "r", "step": "Copying"}})
    check = PodUse("check", "1", "Running", "n", frozenset({"data"}), owner_uid="u")
    copy = replace(check, name="copy", claims=frozenset({"data", names("data", "r").new_claim}))
    reading = replace(check, name="reading", read_only=True)
    answer = Answer(pods=(check, copy, reading))
    case = Case(resource, None, None, answer, status, None, None)  # type: ignore[arg-type]
    assert [pod.name for pod in case.users] == ["check"]


def test_a_job_that_is_being_deleted_is_not_asked_to_go_again_and_again() -> None:
    """Each step of one look is one question: a dozen of them would count as a defect."""
    body = {
        "apiVersion": API_VERSION,
        "kind": "Volume",
        "metadata": {"name": "data", "namespace": "a", "uid": "u"},
    }
    status = VolumeStatus.model_validate({"migration": {"run": "r", "step": "Copying"}})
    ended = WorkerState(WorkerPhase.ENDED, result="{}")
    case = Case(
        Resource.from_body("volumes", {**body, "spec": {}}),
        None,
        VolumeObserved(),
        Answer(worker=ended),
        status,
        None,
        datetime.now(UTC),
    )
    assert len(cleared(case, "job").actions) == 1
    going = replace(case, answer=Answer(worker=replace(ended, going=True)))
    assert cleared(going, "job").actions == ()


async def test_what_kubectl_applied_is_not_in_the_journal(land: Ground) -> None:
    there = await place(land)
    notes = {"metadata": {"annotations": {APPLIED: "x" * 100_000}}}
    await land.kube.patch(claim_path(there.namespace, "data"), notes)
    await crawl(there, lambda: at_switch(there))
    old = await land.pv((await there.migration())["oldVolume"])
    assert old is not None
    assert APPLIED not in old["metadata"]["annotations"][MIGRATION]


async def test_a_claim_with_more_annotations_than_a_volume_can_carry_is_not_moved(land: Ground) -> None:
    there = await place(land)
    await land.kube.patch(
        claim_path(there.namespace, "data"), {"metadata": {"annotations": {"big": "x" * 70_000}}}
    )
    await there.born()
    await there.look()
    assert await says(there, "remove the large annotations")
    assert await there.claims() == ["data"]


def test_the_claim_to_expand_is_named_where_its_class_can() -> None:
    able = Class("fast", "p", expandable=True, immediate=True, reclaim_policy="Delete", default=False)
    status = VolumeStatus.model_validate(
        {"migration": {"run": "r", "step": "Switching", "storageClassName": "fast"}}
    )
    body = {
        "apiVersion": API_VERSION,
        "kind": "Volume",
        "metadata": {"name": "data", "namespace": "a", "uid": "u"},
        "spec": {},
    }
    case = Case(
        Resource.from_body("volumes", body),
        None,
        VolumeObserved(classes={"fast": able}),
        Answer(),
        status,
        None,
        datetime.now(UTC),
    )
    assert f"expand the claim {names('data', 'r').new_claim}" in settling.too_small(case)
    assert "expand the claim" not in settling.too_small(replace(case, seen=VolumeObserved()))


async def struck_out(there: Place) -> bool:
    return "migration" not in await there.status()


async def gone(there: Place) -> bool:
    return await there.body() is None


async def at_switch(there: Place) -> bool:
    return (await there.migration()).get("step") == "Switching"
