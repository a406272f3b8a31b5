"""Sizes: declared ones, what autoExpand adds, and what cannot be."""

from dataclasses import replace
from datetime import timedelta

import pytest
from volume_builders import (
    NOW,
    UID,
    claim,
    condition,
    figures,
    look,
    persistent_volume,
    pod,
    seen,
    settled,
    told,
    volume,
)

from lucid_storage.errors import Reason
from lucid_storage.kinds.oneshot import Standing
from lucid_storage.kinds.volume.actions import ExpandClaim
from lucid_storage.kinds.volume.desired import resolve
from lucid_storage.kinds.volume.growth import PAUSE, migration
from lucid_storage.models.meta import CREATED_FOR, GROWN_TO
from lucid_storage.models.quantity import to_bytes, to_text
from lucid_storage.models.settings import Settings
from lucid_storage.models.volume import VolumePhase, VolumeStatus

GROWING = {"autoExpand": {"enabled": True, "stepPercent": 20, "maxSize": "15Gi"}}


def expansion(step: object) -> str | None:
    (action,) = step.actions or (None,)  # type: ignore[attr-defined]
    return to_text(action.size) if isinstance(action, ExpandClaim) else None


def test_a_larger_size_expands_the_claim() -> None:
    assert expansion(look(volume({"size": "12Gi"}), seen(claim()))) == "12Gi"


def test_an_expansion_is_followed_until_the_file_system_has_grown() -> None:
    asked = claim(requested=to_bytes("12Gi"))
    step = look(volume({"size": "12Gi"}), seen(asked))
    assert step.said is not None
    assert (step.said.reason, step.status.phase, step.actions) == (
        Reason.EXPANDING,
        VolumePhase.EXPANDING,
        (),
    )
    waiting = claim(requested=to_bytes("12Gi"), conditions={"FileSystemResizePending": "Waiting"})
    idle = look(volume({"size": "12Gi"}), seen(waiting))
    used = look(volume({"size": "12Gi"}), seen(waiting, pods=(pod(),)))
    assert idle.said is not None
    assert used.said is not None
    assert "when a pod mounts the claim next" in idle.said.message
    assert "is being expanded" in used.said.message


def test_the_end_of_an_expansion_is_told_once() -> None:
    resource = volume({"size": "12Gi"})
    status = settled(resource, seen(claim(requested=to_bytes("12Gi"))))
    done = look(resource, seen(claim("12Gi")), status)
    assert done.said is not None
    assert (done.said.standing, [n.reason for n in done.notices]) == (Standing.DONE, ["Expanded"])
    assert done.status.expanded_at == NOW
    assert look(resource, seen(claim("12Gi")), told(done)).notices == ()


@pytest.mark.parametrize(
    "broken",
    [
        claim(requested=to_bytes("12Gi"), conditions={"ControllerResizeError": "array is full"}),
        claim(
            requested=to_bytes("12Gi"),
            conditions={"Resizing": "array is full"},
            resize="ControllerResizeInfeasible",
        ),
        claim(
            requested=to_bytes("12Gi"),
            conditions={"FileSystemResizePending": "Waiting", "ControllerResizeError": "array is full"},
        ),
    ],
)
def test_a_driver_that_cannot_expand_is_one_condition_with_its_words(broken: object) -> None:
    step = look(volume({"size": "12Gi"}), seen(broken))  # type: ignore[arg-type]
    assert step.said is not None
    assert (step.said.standing, step.said.reason) == (Standing.BLOCKED, Reason.EXPANSION_FAILED)
    assert "array is full." in step.said.message


def test_a_file_system_that_does_not_grow_under_its_pods_names_those_that_must_let_go() -> None:
    refused = {"FileSystemResizePending": "Waiting", "NodeResizeError": "it grows when it is mounted"}
    known = claim(requested=to_bytes("12Gi"), conditions=refused, resize="NodeResizePending")
    used = look(volume({"size": "12Gi"}), seen(known, pods=(pod("store-0"),)))
    assert used.said is not None
    assert (used.said.standing, used.said.reason) == (Standing.BLOCKED, Reason.CLAIM_IN_USE)
    assert "under the pods that use it: store-0. End them" in used.said.message
    assert "it grows when it is mounted." in used.said.message
    idle = look(volume({"size": "12Gi"}), seen(known))
    assert idle.said is not None
    assert (idle.said.standing, idle.said.reason) == (Standing.UNDER_WAY, Reason.EXPANDING)
    assert "grows when a pod mounts the claim next" in idle.said.message
    never = look(volume({"size": "12Gi"}), seen(replace(known, resize="NodeResizeInfeasible")))
    assert never.said is not None
    assert never.said.reason == Reason.EXPANSION_FAILED


def test_a_class_that_cannot_expand_says_why_and_what_to_do() -> None:
    known = claim(class_name="local-path")
    step = look(volume({"size": "10Gi"}), seen(known))
    on, reason, message = condition(step, "Expandable") or (None, "", "")
    assert (on, reason) == (False, "NotExpandable")
    assert "local-path" in message
    assert "resizeStrategy: Migrate" in message
    larger = look(volume({"size": "12Gi"}), seen(known))
    assert larger.said is not None
    assert (larger.actions, larger.said.reason) == ((), Reason.NOT_IN_PLACE)
    assert "resizeStrategy: Migrate" in larger.said.message


def test_what_only_another_claim_can_give_is_a_migration() -> None:
    def needed(spec: dict[str, str], **fields: str) -> tuple[str, str] | None:
        need = migration(resolve(volume(spec), Settings()), seen(claim(**fields)))
        return (need.class_name, to_text(need.size)) if need is not None else None

    assert needed({"size": "12Gi"}) is None
    assert needed({"size": "12Gi"}, class_name="local-path") == ("local-path", "12Gi")
    assert needed({"storageClassName": "fast"}, class_name="local-path") == ("fast", "10Gi")
    assert needed({"storageClassName": "fast", "size": "12Gi"}, class_name="local-path") == ("fast", "12Gi")
    assert needed({}, class_name="local-path") is None


def test_a_claim_that_was_bound_to_a_larger_volume_has_that_size_already() -> None:
    """Its class cannot expand, and need not."""
    known = claim("1Gi", class_name="local-path", capacity=to_bytes("5Gi"))
    larger = persistent_volume(class_name="local-path", capacity=to_bytes("5Gi"))
    for size in ("3Gi", "5Gi"):
        for resize in ("Expand", "Migrate"):
            spec = {"size": size, "resizeStrategy": resize}
            assert migration(resolve(volume(spec), Settings()), seen(known, volume=larger)) is None
            step = look(volume(spec), seen(known, volume=larger))
            assert step.said is not None
            assert (step.actions, step.said.standing) == ((), Standing.DONE)
            assert step.status.size == "5Gi"
    need = migration(resolve(volume({"size": "6Gi"}), Settings()), seen(known, volume=larger))
    assert need is not None
    assert (need.class_name, to_text(need.size)) == ("local-path", "6Gi")


@pytest.mark.parametrize(
    ("spec", "annotations"),
    [
        ({"size": "5Gi"}, {}),
        ({"size": "5Gi", **GROWING}, {}),
        ({"size": "5Gi"}, {GROWN_TO: "8Gi"}),
        ({"size": "5Gi"}, {GROWN_TO: "a lot"}),
    ],
    ids=[
        "declared",
        "adopted, with autoExpand",
        "declared after autoExpand",
        "an annotation that is no size",
    ],
)
def test_a_volume_that_shrinks_on_paper_is_refused(
    spec: dict[str, object], annotations: dict[str, str]
) -> None:
    step = look(volume(spec), seen(claim(annotations=annotations)))
    assert step.said is not None
    assert (step.actions, step.said.standing, step.said.reason) == (
        (),
        Standing.BLOCKED,
        Reason.NOT_IN_PLACE,
    )
    assert "Write size: 10Gi" in step.said.message


@pytest.mark.parametrize(
    ("spec", "annotations"),
    [
        ({"size": "5Gi", **GROWING}, {GROWN_TO: "10Gi", CREATED_FOR: UID}),
        ({"size": "5Gi"}, {GROWN_TO: "10Gi", CREATED_FOR: "somebody"}),
        ({}, {}),
    ],
)
def test_a_size_that_autoexpand_reached_is_no_shrinking(
    spec: dict[str, object], annotations: dict[str, str]
) -> None:
    step = look(volume(spec), seen(claim(annotations=annotations)))
    assert step.said is not None
    assert (step.actions, step.said.standing) == ((), Standing.DONE)


def test_other_access_modes_are_refused() -> None:
    step = look(volume({"accessModes": ["ReadWriteMany"]}), seen(claim()))
    assert step.said is not None
    assert (step.said.reason, "ReadWriteOnce" in step.said.message) == (Reason.NOT_IN_PLACE, True)


def test_autoexpand_grows_by_a_step_at_the_warning_threshold() -> None:
    assert expansion(look(volume(GROWING), seen(claim(), figures=figures(80)))) == "12Gi"
    assert expansion(look(volume(GROWING), seen(claim(), figures=figures(79)))) is None
    assert expansion(look(volume(), seen(claim(), figures=figures(99)))) is None


def test_autoexpand_stops_at_its_cap_and_says_so() -> None:
    resource = volume(GROWING)
    last = look(resource, seen(claim("14Gi"), figures=figures(90, size="14Gi")))
    assert expansion(last) == "15Gi"
    full = look(resource, seen(claim("15Gi"), figures=figures(90, size="15Gi")))
    assert full.actions == ()
    on, reason, message = condition(full, "UsageWarning") or (None, "", "")
    assert (on, reason) == (True, "MaxSizeReached")
    assert "15Gi" in message


def test_autoexpand_never_exceeds_the_operators_largest_size() -> None:
    settings = Settings(volume_max_size="11Gi")
    step = look(volume(GROWING), seen(claim(), figures=figures(90)), settings=settings)
    assert expansion(step) == "11Gi"


def test_autoexpand_waits_for_the_last_expansion() -> None:
    asked = claim(requested=to_bytes("12Gi"))
    assert look(volume(GROWING), seen(asked, figures=figures(99))).actions == ()


def test_autoexpand_waits_for_figures_from_after_the_last_expansion_and_for_its_pause() -> None:
    resource = volume(GROWING)
    status = settled(resource, seen(claim(requested=to_bytes("12Gi"))))
    status = settled(resource, seen(claim("12Gi")), status)
    old = figures(99, size="12Gi", at=NOW)
    new = figures(99, size="12Gi", at=NOW + PAUSE)
    late = NOW + PAUSE + timedelta(seconds=1)
    assert expansion(look(resource, seen(claim("12Gi"), figures=old), status, now=late)) is None
    assert expansion(look(resource, seen(claim("12Gi"), figures=new), status, now=NOW + PAUSE / 2)) is None
    assert expansion(look(resource, seen(claim("12Gi"), figures=new), status, now=late)) == "15Gi"


def test_autoexpand_does_not_wait_for_the_time_of_a_clock_that_ran_ahead() -> None:
    ahead = VolumeStatus(claim_uid=claim("12Gi").uid, expanded_at=NOW + timedelta(days=1))
    assert (
        expansion(look(volume(GROWING), seen(claim("12Gi"), figures=figures(99, size="12Gi")), ahead))
        == "15Gi"
    )


def test_a_restart_in_the_middle_of_a_step_does_not_take_it_twice() -> None:
    resource = volume(GROWING)
    before = settled(resource, seen(claim()))
    # The patch was sent and the operator died; the driver was done before the next one looked.
    after = look(resource, seen(claim("12Gi"), figures=figures(99)), before)
    assert (after.actions, after.status.expanded_at) == ((), NOW)


def test_autoexpand_in_a_class_that_cannot_says_so() -> None:
    step = look(volume(GROWING), seen(claim(class_name="local-path"), figures=figures(90)))
    assert step.actions == ()
    assert "autoExpand cannot work" in (condition(step, "UsageWarning") or (None, "", ""))[2]


def test_a_declared_size_and_a_step_make_one_expansion() -> None:
    spec = {"size": "14Gi", **GROWING}
    assert expansion(look(volume(spec), seen(claim(), figures=figures(90)))) == "14Gi"
