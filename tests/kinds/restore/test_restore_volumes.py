"""Volumes in a Restore: new or empty claims that nobody uses, made once, filled by the right user."""

from dataclasses import replace
from typing import Any

import pytest

from lucid_storage.errors import Reason, RefusedError
from lucid_storage.kinds.restore.volumes import (
    Filling,
    Origin,
    TargetFacts,
    asked,
    claim_body,
    filling,
    restored_volumes,
)
from lucid_storage.kinds.workers.job import WORKER, PodIdentity
from lucid_storage.kube.claims import Claim, Class, PodUse, claim_of
from lucid_storage.models.meta import RESTORED_BY, RESTORED_FROM
from lucid_storage.models.orders import PlannedVolume
from lucid_storage.models.restore import RestoredVolume, VolumeRestore
from lucid_storage.models.volume import CopyIdentity

FAST = Class("fast", "loop.csi", True, True, "Delete", False)
DEFAULT = Class("standard", "p", False, False, "Delete", True)
HERE = Origin("b1", "run1")
CLASSES = {"fast": FAST, "standard": DEFAULT}


def wanted(**more: Any) -> RestoredVolume:
    base = RestoredVolume(
        name="data",
        target="data",
        size_bytes=1 << 30,
        storage_class_name="fast",
        access_modes=["ReadWriteOnce"],
    )
    return base.model_copy(update=more)


def there(**more: Any) -> Claim:
    base = claim_of(
        {
            "metadata": {
                "namespace": "n",
                "name": "data",
                "uid": "u",
                "resourceVersion": "1",
                "creationTimestamp": "2026-11-21T12:00:00Z",
            },
            "spec": {
                "storageClassName": "standard",
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
            "status": {"phase": "Pending"},
        }
    )
    return replace(base, **more)


def filled(*facts: TargetFacts, classes: dict[str, Class] | None = None) -> Filling:
    return filling(facts, CLASSES if classes is None else classes, HERE)


def test_an_absent_claim_is_made_as_the_lost_one_was() -> None:
    found = filled(TargetFacts(wanted(), None))
    (claim,) = found.make
    body = claim_body("n", claim, HERE)
    assert body["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "fast",
    }
    assert body["metadata"]["annotations"] == {RESTORED_FROM: "b1", RESTORED_BY: "run1/data"}
    assert found.mounts[0].read_only is False
    assert found.targets[0].path == "/var/lib/lucid/volumes/data"


def test_where_the_class_is_unknown_the_default_serves() -> None:
    found = filled(TargetFacts(wanted(storage_class_name="elsewhere"), None))
    assert found.make[0].class_name is None


def test_a_claim_that_is_there_is_filled_and_not_made() -> None:
    assert filled(TargetFacts(wanted(), there())).make == ()


def test_a_snapshot_becomes_a_new_claim_that_is_only_read() -> None:
    found = filled(TargetFacts(wanted(snapshot="s"), None))
    source = claim_body("n", found.make[0], HERE)["spec"]["dataSource"]
    assert (source["kind"], source["name"]) == ("VolumeSnapshot", "s")
    assert found.mounts[0].read_only


def test_the_claim_that_this_very_run_made_from_a_snapshot_is_taken() -> None:
    ours = there(annotations=HERE.mark("data"))
    assert filled(TargetFacts(wanted(snapshot="s"), ours)).make == ()


@pytest.mark.parametrize(
    ("made", "volume", "said"),
    [
        (Origin("b1", "run0"), "data", "was written to it since is in it"),
        (Origin("b0", "run1"), "data", "remove the claim.$"),
        (HERE, "logs", "remove the claim.$"),
    ],
)
def test_a_claim_that_another_run_or_volume_filled_is_no_restored_snapshot(
    made: Origin, volume: str, said: str
) -> None:
    """It may have been used since, and nothing tells what was in it."""
    used = there(annotations=made.mark(volume))
    with pytest.raises(RefusedError, match=said) as caught:
        filled(TargetFacts(wanted(snapshot="s"), used))
    assert caught.value.reason is Reason.TARGET_NOT_EMPTY


@pytest.mark.parametrize(
    ("facts", "reason", "said"),
    [
        (
            TargetFacts(
                wanted(), there(), users=(PodUse("app-0", "u", "Running", "n", frozenset({"data"})),)
            ),
            Reason.CLAIM_IN_USE,
            "app-0",
        ),
        (TargetFacts(wanted(), there(volume_mode="Block")), Reason.NOT_SUPPORTED, "raw block device"),
        (TargetFacts(wanted(), there(deleting=True)), Reason.CLAIM_TERMINATING, "being deleted"),
        (TargetFacts(wanted(snapshot="s"), there()), Reason.TARGET_NOT_EMPTY, "new claim only"),
        (
            TargetFacts(wanted(snapshot="s", storage_class_name="gone"), None),
            Reason.CLASS_NOT_FOUND,
            "from a snapshot",
        ),
    ],
)
def test_what_stands_in_the_way_is_said(facts: TargetFacts, reason: Reason, said: str) -> None:
    with pytest.raises(RefusedError, match=said) as caught:
        filled(facts)
    assert caught.value.reason is reason


def test_without_any_class_somebody_must_make_the_claim() -> None:
    with pytest.raises(RefusedError, match="no default one"):
        filled(TargetFacts(wanted(), None), classes={})


@pytest.mark.parametrize(
    ("copy", "identity"),
    [
        (None, WORKER),
        (CopyIdentity(fs_group=7), PodIdentity(fs_group=7)),
        (CopyIdentity(run_as_user=999), PodIdentity(999, 999, 999)),
        (CopyIdentity(run_as_user=999, run_as_group=5, fs_group=6), PodIdentity(999, 5, 6)),
        (CopyIdentity(run_as_user=0), PodIdentity(0, 0, None)),
    ],
)
def test_the_files_are_written_by_the_user_that_the_volume_names(
    copy: CopyIdentity | None, identity: PodIdentity
) -> None:
    assert filled(TargetFacts(wanted(), there(), copy)).identity == identity


def test_two_users_are_two_restores() -> None:
    other = wanted(name="logs", target="logs")
    with pytest.raises(RefusedError, match="a Restore for each"):
        filled(TargetFacts(wanted(), None, CopyIdentity(run_as_user=1)), TargetFacts(other, None))


def test_two_volumes_do_not_go_into_one_claim() -> None:
    with pytest.raises(RefusedError, match="a target of its own"):
        asked([VolumeRestore(name="a", target="c"), VolumeRestore(name="b", target="c")])


def test_what_was_planned_stands_in_status_so_that_the_next_makes_the_same_claims() -> None:
    planned = PlannedVolume(name="a", target="b", requested_bytes=5, storage_class="fast")
    assert restored_volumes([planned]) == [
        RestoredVolume(name="a", target="b", size_bytes=5, storage_class_name="fast")
    ]
    assert restored_volumes([]) is None
