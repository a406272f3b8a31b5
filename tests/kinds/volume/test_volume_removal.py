"""Deletion of a Volume: only what is ours or confirmed goes, and nothing that a pod uses."""

from dataclasses import replace

import pytest
from volume_builders import claim, pod, seen, settled, volume

from lucid_storage.errors import Reason
from lucid_storage.kinds.oneshot import Step
from lucid_storage.kinds.volume import removal
from lucid_storage.kinds.volume.actions import DeleteClaim
from lucid_storage.kinds.volume.observed import VolumeObserved
from lucid_storage.kube.resources import Resource
from lucid_storage.models.meta import CONFIRM_DELETE, PAUSED
from lucid_storage.models.volume import VolumeStatus

DELETE = {"deletionPolicy": "Delete"}
FOREIGN = claim(annotations={})


def removed(
    resource: Resource, observed: VolumeObserved, *, forbid_drops: bool = False
) -> Step[VolumeStatus]:
    going = replace(resource, deleted="2026-11-21T12:00:00Z")
    status = settled(resource, observed) if observed.claim is not None else VolumeStatus()
    return removal.plan(going, observed, status, forbid_drops=forbid_drops)


def test_a_claim_that_was_made_here_is_deleted() -> None:
    step = removed(volume(DELETE), seen(claim()))
    assert (step.actions, step.hold) == ((DeleteClaim(claim()),), True)


@pytest.mark.parametrize(
    ("resource", "observed", "words"),
    [
        (volume(), seen(claim()), "deletionPolicy: Retain"),
        (volume(DELETE), seen(FOREIGN), "was there before"),
        (volume(DELETE, annotations={CONFIRM_DELETE: "other"}), seen(FOREIGN), "was there before"),
        (volume(DELETE), seen(None), "is gone"),
    ],
)
def test_what_must_stay_stays_and_an_event_says_why(
    resource: Resource, observed: VolumeObserved, words: str
) -> None:
    step = removed(resource, observed)
    assert (step.actions, step.hold) == ((), False)
    assert words in step.notices[0].message


def test_the_old_volume_of_a_move_is_named_when_the_volume_that_knows_of_it_goes() -> None:
    status = VolumeStatus(kept_volume="pv-old")
    step = removal.plan(
        replace(volume(DELETE), deleted="2026-11-21T12:00:00Z"), seen(None), status, forbid_drops=False
    )
    assert step.notices[0].message == (
        "The claim chunks is gone. The PersistentVolume pv-old, from which the data were moved, is kept."
    )


def test_pods_that_have_ended_and_hold_the_claim_are_named() -> None:
    going = claim(deleting=True)
    step = removed(volume(DELETE), seen(going, ended=(pod("backup-1", phase="Succeeded", ended=True),)))
    assert step.said is not None
    assert "These pods have ended and hold it until they are deleted: backup-1." in step.said.message


def test_an_adopted_claim_goes_when_its_deletion_is_confirmed() -> None:
    step = removed(volume(DELETE, annotations={CONFIRM_DELETE: "chunks"}), seen(FOREIGN))
    assert isinstance(step.actions[0], DeleteClaim)


def test_the_operators_settings_forbid_all_drops() -> None:
    step = removed(volume(DELETE), seen(claim()), forbid_drops=True)
    assert (step.actions, step.hold) == ((), False)
    assert "FORBID_DROPS" in step.notices[0].message


def test_another_claim_under_the_name_stays() -> None:
    status = settled(volume(DELETE), seen(claim()))
    going = volume(DELETE, deleted="2026-11-21T12:00:00Z")
    step = removal.plan(going, seen(claim(uid="other")), status, forbid_drops=False)
    assert (step.actions, step.hold) == ((), False)


def test_a_claim_in_use_is_not_pulled_away_and_its_user_is_named() -> None:
    step = removed(volume(DELETE), seen(claim(), pods=(pod(),)))
    assert step.said is not None
    assert (step.actions, step.hold, step.said.reason) == ((), True, Reason.CLAIM_IN_USE)
    assert "writer" in step.said.message


def test_a_pause_holds_a_deletion() -> None:
    step = removed(volume(DELETE, annotations={PAUSED: "true"}), seen(claim()))
    assert step.said is not None
    assert (step.actions, step.hold, step.said.reason) == ((), True, Reason.PAUSED)


def test_a_claim_that_is_going_is_waited_for() -> None:
    step = removed(volume(DELETE), seen(claim(deleting=True)))
    assert (step.actions, step.hold) == ((), True)
