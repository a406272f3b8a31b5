"""What is remembered of resources: our own status writes are never taken back by old events."""

from typing import Any

from lucid_storage.kinds.cache import ResourceCache
from lucid_storage.kube.resources import Resource


def resource(name: str = "a", version: str = "10", uid: str = "u", **more: Any) -> Resource:
    meta = {
        "name": name,
        "namespace": "ns",
        "uid": uid,
        "resourceVersion": version,
        "generation": 1,
        "creationTimestamp": "2026-11-21T12:00:00Z",
    }
    return Resource.from_body("collections", {"metadata": {**meta, **more}, "spec": {}, "status": {}})


def test_an_event_older_than_our_write_does_not_bring_the_old_status_back() -> None:
    cache = ResourceCache()
    first = cache.put(resource(version="10"))
    first.status["origin"] = "Created"
    cache.wrote(first, "12")
    stale = cache.put(resource(version="11", finalizers=["x"]))
    assert stale.status == {"origin": "Created"}
    assert stale.finalizers == ("x",)


def test_a_write_reaches_a_newer_snapshot_that_came_meanwhile() -> None:
    cache = ResourceCache()
    first = cache.put(resource(version="10"))
    cache.put(resource(version="11"))
    first.status["origin"] = "Created"
    cache.wrote(first, "12")
    kept = cache.get(first.key)
    assert kept is not None
    assert kept.status == {"origin": "Created"}


def test_an_event_newer_than_our_write_counts_as_it_is() -> None:
    cache = ResourceCache()
    first = cache.put(resource(version="10"))
    first.status["origin"] = "Created"
    cache.wrote(first, "12")
    assert cache.put(resource(version="13")).status == {}


def test_another_object_of_the_same_name_inherits_nothing() -> None:
    cache = ResourceCache()
    first = cache.put(resource(version="10"))
    first.status["origin"] = "Created"
    cache.wrote(first, "12")
    assert cache.put(resource(version="11", uid="other")).status == {}


def test_peers_share_a_target_and_are_alive() -> None:
    cache = ResourceCache()
    names = ("a", "b", "gone", "elsewhere")
    made = {name: cache.put(resource(name)) for name in names}
    for name in names:
        cache.file(made[name].key, "db.other" if name == "elsewhere" else "db.users")
    cache.put(resource("gone", deletionTimestamp="2026-11-21T12:00:00Z"))
    assert [p.key.name for p in cache.peers(made["a"], "db.users")] == ["b"]


def test_heirs_are_told_when_a_resource_goes() -> None:
    cache = ResourceCache()
    for name in ("a", "b"):
        cache.file(cache.put(resource(name)).key, "db.users")
    assert {k.name for k in cache.drop(resource("a").key)} == {"b"}
    assert cache.in_database("collections", "db") == [resource("b").key]
