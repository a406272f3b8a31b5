"""What a migration does not believe, does not begin, and does not try without a pause."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from migration_bed import Ground, Place, crawl, moved, place, played_ground, says

from lucid_storage.errors import Reason
from lucid_storage.kinds.volume.migration.journal import names
from lucid_storage.kinds.volume.migration.observed import Answer, Case
from lucid_storage.kinds.workers.launch import WorkerRequest
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.kube.claims import claim_path
from lucid_storage.kube.client import Json
from lucid_storage.kube.resources import Resource
from lucid_storage.kube.storage import PodUse
from lucid_storage.models.meta import API_VERSION, MIGRATION
from lucid_storage.models.orders import VolumeCopyResult
from lucid_storage.models.volume import VolumeStatus

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


@pytest.mark.parametrize("foreign", ["oldVolume", "newVolume"])
async def test_a_status_that_names_the_volume_of_another_namespace_moves_nothing(
    land: Ground, foreign: str
) -> None:
    victim, there = await place(land), await place(land)
    await crawl(there, lambda: at_switch(there))
    journal = await there.migration()
    theirs = f"old-{victim.namespace.removeprefix('move-')}"
    before = await land.pv(theirs)
    await forge(there, {**journal, foreign: theirs, "newReclaimPolicy": "Delete"})
    await there.born()
    for _ in range(10):
        await there.look()
    assert await land.pv(theirs) == before
    assert await says(there, "is not touched")
    await forge(there, journal)
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


async def test_a_last_look_that_finds_no_room_waits_and_says_which_claim_to_expand(land: Ground) -> None:
    there = await place(land)
    there.copies.refuse = lambda request: too_small(request) if "settle" in request.name else None
    await there.born()
    await there.until(lambda: says(there, "expand the claim"), "the way out to be said")
    for _ in range(10):
        await there.look()
    message = (await there.status())["message"]
    assert names("data", (await there.migration())["run"]).new_claim in message
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


async def at_switch(there: Place) -> bool:
    return (await there.migration()).get("step") == "Switching"
