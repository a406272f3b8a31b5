"""Which Backups may end the need of one after a changed shard key."""

from datetime import timedelta
from typing import Any

import pytest
from sharded_builder import NOW, desired, planned, settled, sharded

from lucid_storage.kinds.shardedcollection import neighbours
from lucid_storage.kube.resources import Resource

OWN = {"connection": {"secretName": "own"}}
NAMED = {"mongodb": {"databases": ["shop"]}}
ONLY = {"mongodb": {"collections": ["shop.orders"]}}
ELSEWHERE = {"mongodb": {"databases": ["other"]}}
ALLOWED = {"lucid": ("shop",), "central": ("shop", "other"), "tenant": ("other",)}


def resource(plural: str, namespace: str, spec: dict[str, Any], **metadata: Any) -> Resource:
    started = (NOW + timedelta(minutes=5)).isoformat()
    status = {"phase": "Completed", "type": "full", "serverIdentity": "cluster-1", "startedAt": started}
    named = {"name": "one", "namespace": namespace, "uid": plural, "creationTimestamp": NOW.isoformat()}
    return Resource.from_body(plural, {"metadata": named | metadata, "spec": spec, "status": status})


def reaches(other: Resource) -> bool:
    return other.secret is not None or "shop" in ALLOWED[other.key.namespace]


@pytest.mark.parametrize(
    ("mine", "namespace", "theirs", "enough"),
    [
        ({}, "lucid", {}, True),
        ({}, "central", {}, True),
        ({}, "central", NAMED, True),
        ({}, "central", ELSEWHERE, False),
        # All that its namespace may use, which this database is no part of.
        ({}, "tenant", {}, False),
        # All that another login sees, which may be less.
        ({}, "lucid", OWN, False),
        ({}, "lucid", {**OWN, **NAMED}, True),
        ({}, "lucid", {**OWN, **ONLY}, True),
        (OWN, "lucid", OWN, True),
        (OWN, "central", OWN, False),
        (OWN, "lucid", {}, False),
        (OWN, "central", NAMED, True),
    ],
)
def test_a_backup_of_any_namespace_counts_that_holds_the_collection_for_sure(
    mine: dict[str, Any], namespace: str, theirs: dict[str, Any], enough: bool
) -> None:
    assert needed(resource("shardedcollections", "lucid", mine), resource("backups", namespace, theirs)) is (
        not enough
    )


def test_a_backup_that_is_being_deleted_counts_no_more() -> None:
    going = resource("backups", "lucid", {}, deletionTimestamp=NOW.isoformat())
    assert needed(resource("shardedcollections", "lucid", {}), going)


def needed(mine: Resource, backup: Resource) -> bool:
    """Whether a backup is needed still when this one is there."""
    near = neighbours.find(
        mine,
        desired(),
        "cluster-1",
        known=lambda plural: [backup] if plural == "backups" else [],
        about=lambda plural, target: [],
        reaches=reaches,
    )
    then = planned(desired(), sharded(neighbours=near), settled(backup_needed_since=NOW))
    return then.status.backup_needed_since is not None
