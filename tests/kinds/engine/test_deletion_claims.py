"""A collection is not dropped while resources of other kinds are about it."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from kinds.surroundings import services
from lucid_storage.kinds.cache import ResourceCache
from lucid_storage.kinds.collection.desired import CollectionDesired, resolve
from lucid_storage.kinds.collection.kind import CollectionKind
from lucid_storage.kinds.contract import Scope
from lucid_storage.kinds.cycle import Cycle
from lucid_storage.kinds.deleting import PASSING_SECONDS
from lucid_storage.kinds.services import Outcome
from lucid_storage.kube.events import Event
from lucid_storage.kube.resources import Resource
from lucid_storage.models.collection import CollectionSpec, CollectionStatus
from lucid_storage.models.meta import FINALIZER

DELETED = datetime(2026, 11, 21, 12, tzinfo=UTC)
UUID = "a" * 32


def other(plural: str, *, server: str = "set-1", **spec: Any) -> Resource:
    meta = {"name": "other", "namespace": "ns", "uid": plural, "generation": 1}
    return Resource.from_body(plural, {"metadata": meta, "spec": spec, "status": {"serverIdentity": server}})


SHARDED = other("shardedcollections", deletionPolicy="Delete")
INDEX = other("indexes", engine="mongodb")


class Dropping(CollectionKind):
    """Its hands are this test's."""

    def __init__(self) -> None:
        super().__init__(cast("Any", None), cast("Any", self), cast("Any", None))
        self.dropped = False

    def forget(self, key: object) -> None: ...

    async def desired(self, resource: Resource) -> CollectionDesired:
        return resolve(CollectionSpec.model_validate(resource.spec), "users", "app")

    async def identity(self, resource: Resource, desired: CollectionDesired) -> str:
        return "set-1"

    async def dispose(
        self, resource: Resource, desired: CollectionDesired, status: CollectionStatus, scope: Scope
    ) -> str:
        self.dropped = True
        return "dropped"


class Bed:
    def __init__(self, *others: Resource) -> None:
        self.kind = Dropping()
        self.others = list(others)
        self.going_namespaces: set[str] = set()
        self.now = DELETED
        self.events: list[Event] = []
        given = services(self, others=lambda resource, target: self.others, now=lambda: self.now)
        self.cycle = Cycle(self.kind, given)

    async def write(self, resource: Resource, status: dict[str, Any]) -> str:
        return "11"

    def emit(self, event: Event) -> None:
        self.events.append(event)

    async def release(self, resource: Resource) -> bool:
        return True

    async def namespace_terminating(self, namespace: str) -> bool:
        return namespace in self.going_namespaces

    async def delete(self) -> Outcome:
        meta = {
            "name": "users",
            "namespace": "ns",
            "uid": "u",
            "generation": 1,
            "finalizers": [FINALIZER],
            "deletionTimestamp": DELETED.isoformat(),
        }
        status = {"uuid": UUID, "origin": "Created", "serverIdentity": "set-1"}
        body = {"metadata": meta, "spec": {"deletionPolicy": "Delete"}, "status": status}
        return await self.cycle.run(Resource.from_body("collections", body))


@pytest.mark.parametrize(
    ("claim", "kind"), [(SHARDED, "ShardedCollection"), (INDEX, "Index")], ids=["sharded", "index"]
)
async def test_what_others_declare_stays_and_the_object_goes(claim: Resource, kind: str) -> None:
    bed = Bed(claim)
    first = await bed.delete()
    assert (first.gone, first.failed) == (False, True), "the other may be about to be deleted as well"
    bed.now += timedelta(seconds=PASSING_SECONDS)
    assert (await bed.delete()).gone
    assert not bed.kind.dropped
    assert bed.events[-1].message == f"app.users stays: the {kind} ns/other declares it too."


async def test_what_is_deleted_a_moment_later_stands_in_nobodys_way() -> None:
    bed = Bed(INDEX)
    assert not (await bed.delete()).gone
    bed.others.clear()
    bed.now += timedelta(seconds=1)
    assert (await bed.delete()).gone
    assert bed.kind.dropped


@pytest.mark.parametrize(
    "claim",
    [
        other("indexes", engine="mongodb", deletionPolicy="Delete"),
        other("indexes", engine="elasticsearch"),
        other("shardedcollections", server="set-2"),
    ],
    ids=["an index that is to go", "a series of that name", "on another server"],
)
async def test_what_does_not_rest_on_the_collection_keeps_nothing(claim: Resource) -> None:
    bed = Bed(claim)
    assert (await bed.delete()).gone
    assert bed.kind.dropped


async def test_what_goes_with_its_namespace_keeps_nothing() -> None:
    bed = Bed(INDEX, SHARDED)
    bed.going_namespaces.add("ns")
    assert (await bed.delete()).gone
    assert bed.kind.dropped


def test_others_are_of_other_kinds_about_the_same_target_and_alive() -> None:
    cache = ResourceCache()
    for resource in (SHARDED, INDEX):
        cache.put(resource)
        cache.file(resource.key, "app.users")
    mine = cache.put(other("collections"))
    cache.file(mine.key, "app.users")
    assert cache.others(mine, "app.users") == [INDEX, SHARDED]
    assert cache.others(mine, "app.orders") == []
    cache.drop(INDEX.key)
    assert cache.others(mine, "app.users") == [SHARDED]
