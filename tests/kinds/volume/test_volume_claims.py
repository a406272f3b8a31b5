"""The claim of a Volume: made, adopted, waited for, and never made again over lost data."""

from dataclasses import replace
from datetime import timedelta

import pytest
from volume_builders import (
    EXPANDABLE,
    LATER,
    LOCAL_PATH,
    NOW,
    UID,
    claim,
    condition,
    look,
    node,
    pending,
    persistent_volume,
    pod,
    seen,
    settled,
    volume,
)

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds.oneshot import Standing
from lucid_storage.kinds.volume.actions import CreateClaim, DeleteClaim
from lucid_storage.kinds.volume.desired import resolve
from lucid_storage.kinds.volume.observed import Refusal
from lucid_storage.kinds.volume.plan import announced
from lucid_storage.kube.claims import Attachment, Class
from lucid_storage.models.base import Origin
from lucid_storage.models.settings import Settings
from lucid_storage.models.volume import VolumePhase, VolumeStatus


def created(**spec: object) -> dict[str, object]:
    step = look(volume(spec), seen())
    (action,) = step.actions
    assert isinstance(action, CreateClaim)
    return action.body


def test_a_new_volume_gets_a_claim_with_the_types_size_and_the_clusters_default_class() -> None:
    body = created()
    assert body["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "local-path",
        "resources": {"requests": {"storage": "20Gi"}},
    }
    assert body["metadata"] == {
        "name": "chunks",
        "namespace": "lucid",
        "labels": {
            "app.kubernetes.io/managed-by": "lucid-storage",
            "storage.lucid-blockchain.org/volume": "chunks",
            "storage.lucid-blockchain.org/volume-type": "chunks",
        },
        "annotations": {"storage.lucid-blockchain.org/created-for": UID},
    }


def test_what_is_declared_goes_into_the_claim() -> None:
    body = created(size="7Gi", storageClassName="fast", accessModes=["ReadWriteMany"])
    assert body["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "7Gi"}},
    }


def test_a_type_without_a_size_of_its_own_gets_the_settings_and_none_exceeds_the_largest() -> None:
    small = Settings(volume_default_size="3Gi", volume_max_size="4Gi")
    sizes = {kind: resolve(volume({"type": kind}), small).new_size >> 30 for kind in ("mongodb", "chunks")}
    assert sizes == {"mongodb": 3, "chunks": 4}


def test_a_size_above_the_operators_largest_is_refused() -> None:
    with pytest.raises(LucidError, match=r"200Gi.*VOLUME_MAX_SIZE") as refused:
        resolve(volume({"size": "200Gi"}), Settings())
    assert refused.value.reason is Reason.INVALID_SPEC


def test_the_newest_of_two_default_classes_is_taken_as_the_api_server_does() -> None:
    newer = replace(EXPANDABLE, default=True, created="2026-06-01")
    step = look(volume(), seen(classes={"fast": newer, "local-path": LOCAL_PATH}))
    assert isinstance(step.actions[0], CreateClaim)
    assert step.actions[0].body["spec"]["storageClassName"] == "fast"


@pytest.mark.parametrize(
    ("spec", "classes", "words"),
    [
        ({"storageClassName": "gold"}, (EXPANDABLE, LOCAL_PATH), 'There is no storage class "gold"'),
        ({}, (EXPANDABLE,), "no default storage class"),
    ],
)
def test_without_a_class_no_claim_is_made(
    spec: dict[str, str], classes: tuple[Class, ...], words: str
) -> None:
    step = look(volume(spec), seen(classes={c.name: c for c in classes}))
    assert step.said is not None
    assert (step.actions, step.said.standing, step.said.reason) == (
        (),
        Standing.BLOCKED,
        Reason.CLASS_NOT_FOUND,
    )
    assert words in step.said.message
    assert "fast" in step.said.message


def test_a_bound_claim_is_ready_and_shown() -> None:
    step = look(volume(), seen(claim()))
    assert step.said is not None
    assert (step.said.standing, step.said.message) == (Standing.DONE, "")
    status = step.status
    assert (status.phase, status.size, status.storage_class_name, status.origin) == (
        VolumePhase.BOUND,
        "10Gi",
        "fast",
        Origin.CREATED,
    )
    assert condition(step, "Expandable") == (True, "Expandable", "")


def test_an_unchanged_volume_is_not_written_again() -> None:
    resource, observed = volume(), seen(claim(), pods=(pod(),), nodes={"node-a": node()})
    first = settled(resource, observed)
    again = settled(resource, observed, first, now=NOW + LATER)
    assert again.model_copy(update={"conditions": None}) == first.model_copy(update={"conditions": None})


def test_a_claim_that_was_there_is_adopted_as_it_is() -> None:
    resource = volume()
    step = look(resource, seen(claim("50Gi", annotations={})))
    assert (step.actions, step.status.origin) == ((), Origin.ADOPTED)
    assert [n.reason for n in step.notices] == ["Adopted"]
    foreign = seen(claim(annotations={}))
    again = look(resource, foreign, settled(resource, foreign))
    assert again.notices == ()


def test_a_claim_that_waits_for_its_first_pod_is_pending_and_no_error() -> None:
    step = look(volume(), seen(pending(class_name="local-path")))
    assert step.said is not None
    assert (step.said.standing, step.said.reason) == (Standing.UNDER_WAY, Reason.WAITING_FOR_POD)
    assert step.status.phase is VolumePhase.PENDING
    assert step.status.size is None


def test_what_a_provisioner_complains_of_is_said_after_a_while() -> None:
    fresh = seen(pending(created=NOW), warning="no room on the array")
    late = seen(pending(created=NOW - timedelta(minutes=1)), warning="no room on the array")
    first, later = look(volume(), fresh), look(volume(), late)
    assert first.said is not None
    assert later.said is not None
    assert "no room" not in first.said.message
    assert "no room on the array." in later.said.message


def test_a_claim_without_data_follows_another_class_or_size() -> None:
    status = settled(volume(), seen(pending(class_name="local-path")))
    step = look(volume({"storageClassName": "fast"}), seen(pending(class_name="local-path")), status)
    (action,) = step.actions
    assert isinstance(action, DeleteClaim)
    assert action.unbound
    assert step.status.claim_uid is None
    after = look(volume({"storageClassName": "fast"}), seen(), step.status)
    assert isinstance(after.actions[0], CreateClaim)


@pytest.mark.parametrize(
    "known",
    [
        pending(class_name="local-path", annotations={}),
        pending(class_name="local-path", selected_node="node-a"),
        pending(class_name="local-path", volume_name="pv-1"),
    ],
)
def test_a_claim_that_may_be_somebodys_or_may_hold_data_is_not_made_anew(known: object) -> None:
    assert look(volume({"storageClassName": "fast"}), seen(known)).actions == ()  # type: ignore[arg-type]


def test_a_lost_claim_is_never_replaced_by_an_empty_one() -> None:
    status = settled(volume(), seen(claim()))
    step = look(volume(), seen(None), status)
    assert step.said is not None
    assert (step.actions, step.said.standing, step.said.reason) == ((), Standing.BLOCKED, Reason.CLAIM_LOST)
    assert step.status.phase is VolumePhase.LOST
    assert "pv-1" in step.said.message
    assert "restore a backup" in step.said.message


def test_a_lost_claim_whose_data_are_kept_says_how_to_get_them_back() -> None:
    kept = persistent_volume(phase="Released", reclaim_policy="Retain")
    step = look(volume(), seen(None, volume=kept), settled(volume(), seen(claim())))
    assert step.said is not None
    assert "safe on the PersistentVolume pv-1" in step.said.message


def test_a_lost_claim_that_never_held_data_is_made_again() -> None:
    status = settled(volume(), seen(pending()))
    assert isinstance(look(volume(), seen(None), status).actions[0], CreateClaim)


def test_another_claim_under_the_name_is_told_and_left_alone() -> None:
    status = settled(volume(), seen(claim()))
    other = claim(uid="other", volume_name="pv-2", annotations={})
    step = look(volume({"size": "20Gi"}), seen(other), status)
    assert step.said is not None
    assert (step.actions, step.said.reason) == ((), Reason.CLAIM_REPLACED)
    assert step.status.claim_uid == "claim-uid"


def test_the_same_volume_under_a_new_claim_is_taken_over() -> None:
    status = settled(volume(), seen(claim()))
    step = look(volume(), seen(claim(uid="other", annotations={})), status)
    assert step.said is not None
    assert (step.said.standing, step.status.claim_uid, step.status.origin) == (
        Standing.DONE,
        "other",
        Origin.ADOPTED,
    )


def test_a_claim_that_is_being_deleted_says_who_holds_it_and_how_to_save_the_data() -> None:
    step = look(volume(), seen(claim(deleting=True), pods=(pod(),), volume=persistent_volume()))
    assert step.said is not None
    assert step.said.reason is Reason.CLAIM_TERMINATING
    assert "writer" in step.said.message
    assert "Retain" in step.said.message


def test_a_volume_that_kubernetes_lost_is_told() -> None:
    step = look(volume(), seen(claim(phase="Lost")))
    assert step.said is not None
    assert (step.said.reason, step.status.phase) == (Reason.VOLUME_LOST, VolumePhase.LOST)


def test_a_node_that_is_away_is_told_with_the_pod_on_it() -> None:
    away = {"node-a": node(ready=False)}
    step = look(volume(), seen(claim(), pods=(pod(),), nodes=away))
    assert step.said is not None
    assert (step.said.standing, step.said.reason) == (Standing.UNDER_WAY, Reason.NODE_AWAY)
    assert "pod writer" in step.said.message
    assert "node-a" in step.said.message


def test_a_volume_that_lies_on_a_node_that_left_is_told() -> None:
    lies = persistent_volume(source="hostPath", hostnames=("node-b",))
    step = look(volume(), seen(claim(), volume=lies, nodes={"node-a": node()}))
    assert step.said is not None
    assert "node-b, which is no longer in the cluster" in step.said.message


def test_a_volume_that_is_still_attached_elsewhere_is_told() -> None:
    waiting = pod("second", node="node-b", phase="Pending")
    nodes = {"node-a": node(ready=False), "node-b": node("node-b")}
    held = (Attachment("pv-1", "node-a", True),)
    step = look(volume(), seen(claim(), pods=(waiting,), nodes=nodes, attachments=held))
    assert step.said is not None
    assert "still attached to the node node-a" in step.said.message
    assert "second" in step.said.message


def test_a_pause_stops_the_claim_from_being_made() -> None:
    paused = volume(annotations={"storage.lucid-blockchain.org/paused": "true"})
    step = look(paused, seen())
    assert step.said is not None
    assert (step.actions, step.said.reason) == ((), Reason.PAUSED)
    assert condition(step, "Paused") == (
        True,
        "Paused",
        "The annotation stops all writes; remove it to go on.",
    )


def test_a_refusal_stands_as_one_sentence_and_is_tried_again_ever_more_rarely() -> None:
    def refused(attempts: int, generation: int = 1) -> Refusal:
        return Refusal(Reason.QUOTA_EXCEEDED, "No room.", True, generation, NOW, attempts)

    waits: list[float | None] = []
    for attempts in (1, 2, 3, 20):
        step = look(volume(), seen(refusal=refused(attempts)), now=NOW + timedelta(seconds=1))
        assert step.said is not None
        assert (step.actions, step.said.message) == ((), "No room.")
        waits.append(step.recheck_seconds)
    assert waits == [4, 9, 19, 599]
    due = look(volume(), seen(refusal=refused(1)), now=NOW + timedelta(seconds=6))
    assert due.said is not None
    assert (len(due.actions), due.said.message) == (1, "No room.")
    changed = look(volume(generation=2), seen(refusal=refused(20)))
    assert len(changed.actions) == 1


def test_a_clock_that_was_put_back_makes_no_wait_longer() -> None:
    refusal = Refusal(Reason.QUOTA_EXCEEDED, "No room.", True, 1, NOW, 3)
    assert len(look(volume(), seen(refusal=refusal), now=NOW - timedelta(hours=1)).actions) == 1


def test_status_survives_a_claim_of_an_older_operator() -> None:
    assert VolumeStatus.model_validate({"phase": "Bound", "unknown": 1}).phase is VolumePhase.BOUND


def test_words_of_other_programs_are_cut_to_what_status_has_room_for() -> None:
    refusal = Refusal(Reason.QUOTA_EXCEEDED, "x" * 5000, True, 1, NOW, 1)
    step = announced(VolumeStatus(), look(volume(), seen(refusal=refusal)))
    assert len(step.status.message or "") == 1024
    VolumeStatus.model_validate(step.status.to_dict())
