"""A migration that cannot go on in its switch is given up by annotation: the claim gets its old volume back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from migration_bed import Ground, Place, crawl, held, place, played_ground, says

from lucid_storage.errors import LeadershipLostError, Reason
from lucid_storage.kinds.workers.launch import WorkerRequest
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.kube.claims import claim_path
from lucid_storage.models.meta import GIVE_UP_MIGRATION, MIGRATION, RUN_AGAIN
from lucid_storage.models.volume_work import VolumeCopyResult


@pytest.fixture
async def land() -> AsyncIterator[Ground]:
    made = await played_ground()
    yield made
    await made.close()


def too_small(request: WorkerRequest) -> WorkerState | None:
    if "settle" not in request.name:
        return None
    result = VolumeCopyResult(
        run=request.order.run, ok=False, reason=Reason.NOT_ENOUGH_SPACE, message="It is full."
    )
    return WorkerState(WorkerPhase.ENDED, result=result.model_dump_json(by_alias=True))


async def stuck(land: Ground) -> Place:
    """In the switch, and the data do not fit any more."""
    there = await place(land)
    there.copies.refuse = too_small
    await there.born()
    await there.until(lambda: says(there, "give the migration up"), "the way out to be said")
    return there


async def give_up(there: Place) -> None:
    run = (await there.migration())["run"]
    await there.change({"metadata": {"annotations": {GIVE_UP_MIGRATION: run}}})


async def over(there: Place) -> bool:
    journal = await there.migration()
    body = await there.body()
    free = body is not None and not body["metadata"].get("finalizers")
    return free and journal.get("step") == "Failed" and journal.get("cleaned") is True


async def as_it_was(there: Place) -> None:
    """The claim has its old volume, and nothing of the migration is left."""
    claim = await there.claim()
    assert claim is not None
    assert "deletionTimestamp" not in claim["metadata"]
    assert claim["status"]["phase"] == "Bound"
    assert claim["spec"]["storageClassName"] == there.ground.old_class
    assert claim["spec"]["resources"]["requests"]["storage"] == "1Gi"
    assert claim["metadata"]["labels"]["app"] == "chunks"
    assert claim["metadata"]["annotations"]["example.org/note"] == "kept"
    assert not [name for name in claim["metadata"]["annotations"] if "migration" in name]
    assert await there.claims() == ["data"]
    volume = await there.ground.pv(claim["spec"]["volumeName"])
    assert volume is not None
    assert volume["spec"]["hostPath"]["path"] == str(there.source)
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    assert MIGRATION not in (volume["metadata"].get("annotations") or {})
    assert (there.source / "folder/file").read_text() == "data"
    status = await there.status()
    assert (status["claimUid"], status["origin"]) == (claim["metadata"]["uid"], "Adopted")
    new = await there.ground.pv(status["migration"]["newVolume"])
    assert new is None, "under Delete its class removes it"


async def test_the_claim_gets_its_old_volume_back_with_all_that_it_had(land: Ground) -> None:
    there = await stuck(land)
    (there.source / "written-late").write_text("kept")
    await give_up(there)
    await there.until(lambda: over(there), "the migration to be given up")
    await as_it_was(there)
    assert (there.source / "written-late").read_text() == "kept"
    for _ in range(5):
        await there.look()
    assert len([name for name in there.copies.started if "copy" in name]) == 1, (
        "it is not begun again by itself"
    )
    message = (await there.status())["message"]
    assert "given up" in message
    assert RUN_AGAIN in message


async def test_another_runs_annotation_gives_nothing_up(land: Ground) -> None:
    there = await stuck(land)
    await there.change({"metadata": {"annotations": {GIVE_UP_MIGRATION: "true"}}})
    for _ in range(5):
        await there.look()
    assert (await there.migration())["step"] == "Switching"


async def test_it_is_given_up_before_the_old_claim_is_gone_as_well(land: Ground) -> None:
    there = await place(land)
    await crawl(there, lambda: held(there))
    await give_up(there)
    before = await there.claim()
    await there.born()
    await there.until(lambda: over(there), "the migration to be given up")
    await as_it_was(there)
    after = await there.claim()
    assert before is not None
    assert after is not None
    assert before["metadata"]["uid"] == after["metadata"]["uid"], "it is the same claim"


async def test_a_claim_that_git_makes_in_the_gap_gets_the_old_volume(land: Ground) -> None:
    there = await stuck(land)
    await give_up(there)

    async def vacant() -> bool:
        return "data" not in await there.claims()

    await crawl(there, vacant)
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": land.old_class,
        "resources": {"requests": {"storage": "1Gi"}},
    }
    body = {"metadata": {"name": "data"}, "spec": spec}
    await land.kube.request("POST", claim_path(there.namespace), body=body)
    await there.born()
    await there.until(lambda: over(there), "the migration to be given up")
    await as_it_was(there)


async def test_the_way_back_is_gone_whenever_the_operator_dies(land: Ground) -> None:
    """With the status or without: the journal on the volumes says that it is the way back."""
    there = await stuck(land)
    await give_up(there)
    await there.born()
    await there.until(lambda: over(there), "the migration to be given up")
    writes = there.mortal.done
    assert writes > 8
    cases = [dying(land, n, forgets=n % 2 == 0) for n in range(1, writes)]
    failures = [f for f in await asyncio.gather(*cases, return_exceptions=True) if f is not None]
    assert not failures, "\n".join(repr(failure) for failure in failures)


async def dying(land: Ground, writes: int, *, forgets: bool) -> None:
    there = await stuck(land)
    await give_up(there)
    await there.born(writes)
    with suppress(LeadershipLostError):
        await there.until(lambda: over(there), "the migration to be given up")
    decided = (await there.migration()).get("step") == "Failed"
    if forgets and not decided:
        await there.forget()
    await there.born()
    try:
        await there.until(lambda: over(there), "the migration to be given up")
        await as_it_was(there)
    except AssertionError as error:
        raise AssertionError(f"died after {writes} writes, forgets={forgets}: {error}") from error
