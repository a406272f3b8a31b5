"""What other resources declare that concerns a sharded collection. Pure: their specs are taken as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lucid_storage.kinds.connections import label_of
from lucid_storage.kinds.identity import surely_another
from lucid_storage.kinds.shardedcollection.desired import ShardedDesired
from lucid_storage.kinds.shardedcollection.observed import DeclaredCollection, Neighbours
from lucid_storage.kinds.shardedcollection.zones import ForeignZone
from lucid_storage.kube.resources import Resource
from lucid_storage.stores.mongodb.sharding.types import ShardKey


def find(
    resource: Resource,
    desired: ShardedDesired,
    identity: str | None,
    *,
    known: Callable[[str], Sequence[Resource]],
    about: Callable[[str, str], Sequence[Resource]],
    reaches: Callable[[Resource], bool],
) -> Neighbours:
    """`known` gives all resources of a kind, `about` those of a kind about a target. `reaches` says whether a resource
    may use this one's database with its credentials.
    """

    def near(found: Sequence[Resource]) -> list[Resource]:
        return [
            other for other in found if other.deleted is None and _on_same_server(resource, other, identity)
        ]

    collections = sorted(near(about("collections", desired.target)), key=lambda r: r.seniority)
    return Neighbours(
        collection=_collection(collections[0]) if collections else None,
        indexes=tuple(
            _named(index) for index in near(about("indexes", desired.target)) if _carries(index, desired.key)
        ),
        zones=tuple(
            zone
            for other in near(known("shardedcollections"))
            if other.key != resource.key
            for zone in _zones(other, older=other.seniority < resource.seniority)
        )
        if desired.zones
        else (),
        backups=tuple(
            backup
            for backup in known("backups")
            if backup.deleted is None and reaches(backup) and _means(backup, resource)
        ),
    )


def _on_same_server(mine: Resource, other: Resource, identity: str | None) -> bool:
    """In doubt it is. One that never logged in by credentials of another tenant is about nothing, and may not keep mine
    waiting.
    """
    theirs = other.status.get("serverIdentity")
    if theirs:
        return not surely_another(identity, theirs)
    return other.key.namespace == mine.key.namespace or not other.spec.get("connection")


def _means(backup: Resource, mine: Resource) -> bool:
    """Whether the Backup's selection can be taken at its word. One that names nothing has what its login sees, which is
    known to hold this collection only where the login is the same.
    """
    selection = backup.spec.get("mongodb") or {}
    if selection.get("databases") or selection.get("collections"):
        return True
    return _login(backup) == _login(mine)


def _login(resource: Resource) -> str:
    return label_of(resource.key.namespace, resource.secret)


def _named(resource: Resource) -> str:
    return f"{resource.key.namespace}/{resource.key.name}"


def _collection(resource: Resource) -> DeclaredCollection:
    spec = resource.spec
    series = spec.get("timeSeries")
    return DeclaredCollection(
        _named(resource),
        capped=spec.get("capped") is not None,
        time_series=series if isinstance(series, dict) else None,
    )


def _carries(index: Resource, key: ShardKey) -> bool:
    """Whether the Index begins with the shard key, as far as its spec tells."""
    block = index.spec.get("mongodb") or {}
    parts = [(part.get("field"), part.get("order")) for part in block.get("keys") or ()]
    plain = not block.get("sparse") and block.get("partialFilterExpression") is None
    return plain and tuple(parts[: len(key)]) == key


def _zones(resource: Resource, *, older: bool) -> list[ForeignZone]:
    return [
        ForeignZone(
            zone["name"], frozenset(zone["shards"]), _named(resource), older, resource.status.get("target")
        )
        for zone in resource.spec.get("zones") or ()
    ]
