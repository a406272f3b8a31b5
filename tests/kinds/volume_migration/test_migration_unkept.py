"""What a copy could not keep is told; who copies, and what becomes of an old volume that is released."""

import json
from collections.abc import AsyncIterator, Callable

import pytest
from migration_bed import Ground, place, played_ground

from lucid_storage.errors import Reason
from lucid_storage.kinds.volume.migration import ending
from lucid_storage.kinds.volume.migration.actions import FreeVolume
from lucid_storage.kinds.volume.migration.journal import Journal, Stage
from lucid_storage.kinds.volume.migration.observed import Answer, Case
from lucid_storage.kinds.volume.migration.requests import identity
from lucid_storage.kinds.workers.job import USER, PodIdentity
from lucid_storage.kinds.workers.launch import WorkerRequest
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.kube.client import Json
from lucid_storage.kube.resources import Resource
from lucid_storage.kube.volumes import MovingVolume
from lucid_storage.models.meta import API_VERSION, MIGRATION
from lucid_storage.models.volume import CopyIdentity, VolumeStatus
from lucid_storage.models.volume_work import VolumeCopyResult


@pytest.fixture
async def land() -> AsyncIterator[Ground]:
    made = await played_ground()
    yield made
    await made.close()


def copied(**lost: object) -> Callable[[WorkerRequest], WorkerState | None]:
    """Workers that copied, and lost this on the way."""

    def answer(request: WorkerRequest) -> WorkerState:
        known = "settle" in request.name or json.loads(request.order.model_dump_json()).get("known_stamp")
        fields = {"unchanged": True} if known else lost
        result = VolumeCopyResult(run=request.order.run, ok=True, stamp="s", digest="d", **fields)  # type: ignore[arg-type]
        return WorkerState(WorkerPhase.ENDED, result=result.model_dump_json(by_alias=True))

    return answer


@pytest.mark.parametrize(
    ("lost", "condition", "reason", "words"),
    [
        ({"owners_not_kept": 3}, "OwnersNotKept", Reason.OWNERS_NOT_KEPT, "the owners of 3 entries"),
        ({"top_mode_kept": False}, "OwnersNotKept", Reason.OWNERS_NOT_KEPT, "top folder of the new volume"),
        (
            {"attributes_not_kept": 2},
            "AttributesNotKept",
            Reason.ATTRIBUTES_NOT_KEPT,
            "access lists of 2 entries",
        ),
    ],
    ids=["owners", "mode of the top folder", "attributes"],
)
@pytest.mark.parametrize("forgets", [False, True], ids=["", "status lost in the switch"])
async def test_what_was_not_kept_is_a_condition_and_in_the_event(
    land: Ground, lost: dict[str, object], condition: str, reason: Reason, words: str, forgets: bool
) -> None:
    there = await place(land)
    await there.born()
    there.copies.refuse = copied(**lost, skipped=1)
    told: list[str] = []
    emit = there.cycle._services.events.emit  # type: ignore[union-attr]

    def recorded(event: object) -> None:
        told.append(event.message)  # type: ignore[attr-defined]
        emit(event)  # type: ignore[arg-type]

    there.cycle._services.events.emit = recorded  # type: ignore[union-attr, method-assign]
    if forgets:
        await there.step("Switching")
        await there.forget()
    await there.settled()
    found = {c["type"]: c for c in (await there.status())["conditions"]}
    assert (found[condition]["status"], found[condition]["reason"]) == ("True", reason)
    assert words in found[condition]["message"]
    (other,) = {"OwnersNotKept", "AttributesNotKept"} - {condition}
    assert (found[other]["status"], found[other]["message"]) == ("False", "")
    (event,) = [message for message in told if message.startswith("The claim has the PersistentVolume")]
    assert words in event
    assert "1 sockets or device nodes were left out" in event


@pytest.mark.parametrize(
    ("asked", "who"),
    [
        (None, PodIdentity(USER, USER, USER)),
        ({"runAsUser": 0}, PodIdentity(0, 0, None)),
        ({"runAsUser": 0, "fsGroup": 7}, PodIdentity(0, 0, 7)),
        ({"runAsUser": 999}, PodIdentity(999, 999, 999)),
        ({"runAsUser": 999, "runAsGroup": 5}, PodIdentity(999, 5, 5)),
        ({"runAsGroup": 5}, PodIdentity(USER, 5, 5)),
    ],
)
def test_root_copies_without_an_fs_group_which_would_take_the_files_groups_away(
    asked: Json | None, who: PodIdentity
) -> None:
    assert identity(CopyIdentity.model_validate(asked) if asked else None) == who


BOOK = Journal(
    run="r",
    stage=Stage.COMPLETED,
    namespace="n",
    claim="data",
    claim_uid="u",
    old_volume="old",
    new_volume="new",
    old_policy="Delete",
    new_policy="Delete",
    class_name="c",
    size="1Gi",
    stamp="s",
    access_modes=("ReadWriteOnce",),
)


@pytest.mark.parametrize(
    ("phase", "forbid", "policy"),
    [
        ("Released", False, "Delete"),
        ("Released", True, "Retain"),
        ("Available", False, "Delete"),
        ("Bound", False, "Retain"),
        ("Bound", True, "Retain"),
    ],
)
def test_a_released_volume_gets_its_policy_unless_drops_are_forbidden_or_it_is_anothers(
    phase: str, forbid: bool, policy: str
) -> None:
    """A volume that somebody gave to another claim in the meantime keeps what it has now."""
    notes = {MIGRATION: BOOK.text()}
    old = MovingVolume("old", "uid", "1", phase, "Retain", "c", 1 << 30, None, annotations=notes)
    body = {
        "apiVersion": API_VERSION,
        "kind": "Volume",
        "metadata": {"name": "data", "namespace": "n", "uid": "u"},
        "spec": {},
    }
    status = VolumeStatus(kept_volume="old")
    answer = Answer(released=old, forbid_drops=forbid)
    case = Case(Resource.from_body("volumes", body), None, None, answer, status, None, None)  # type: ignore[arg-type]
    step = ending.release(case)
    assert step.actions == (FreeVolume(old, policy),)
    assert step.status.kept_volume is None
    (notice,) = step.notices
    assert ("is deleted by its class" in notice.message) is (policy == "Delete")
