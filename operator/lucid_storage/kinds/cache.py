"""The resources as last seen, and who shares a target with whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lucid_storage.kube.client import Json
from lucid_storage.kube.resources import Key, Resource


class ResourceCache:
    """Every resource of the kinds that are reconciled."""

    def __init__(self) -> None:
        self._resources: dict[Key, Resource] = {}
        self._written: dict[Key, tuple[str, str, Json]] = {}
        self._target_of: dict[Key, tuple[str, str]] = {}
        self._by_target: dict[tuple[str, str], set[Key]] = {}

    def __len__(self) -> int:
        return len(self._resources)

    def __contains__(self, key: Key) -> bool:
        return key in self._resources

    def __iter__(self) -> Iterator[Key]:
        return iter(list(self._resources))

    def get(self, key: Key) -> Resource | None:
        return self._resources.get(key)

    def put(self, resource: Resource) -> Resource:
        """Keep it, and return what is kept: with our own status where the event is older than our last write."""
        written = self._written.get(resource.key)
        if written is not None:
            uid, version, status = written
            if uid == resource.uid and older(resource.resource_version, version):
                resource = replace(resource, status=status)
            else:
                del self._written[resource.key]
        self._resources[resource.key] = resource
        return resource

    def wrote(self, resource: Resource, version: str) -> None:
        """Our write of a status: events that are older must not bring the former status back."""
        kept = self._resources.get(resource.key)
        if kept is None:
            return  # gone meanwhile
        self._written[resource.key] = (resource.uid, version, resource.status)
        if kept.uid == resource.uid and kept.status is not resource.status:
            self.put(kept)

    def file(self, key: Key, target: str) -> None:
        """Remember what a resource is about."""
        slot = (key.plural, target)
        before = self._target_of.get(key)
        if before == slot:
            return
        self._unfile(key)
        self._target_of[key] = slot
        self._by_target.setdefault(slot, set()).add(key)

    def drop(self, key: Key) -> set[Key]:
        """The resource is gone; returns those that shared its target and may now take over."""
        self._resources.pop(key, None)
        self._written.pop(key, None)
        slot = self._target_of.get(key)
        self._unfile(key)
        return set(self._by_target.get(slot, ())) if slot is not None else set()

    def target(self, key: Key) -> str | None:
        """What a resource is about."""
        slot = self._target_of.get(key)
        return slot[1] if slot is not None else None

    def about(self, plural: str, target: str) -> set[Key]:
        """Resources of a kind with this target."""
        return self._by_target.get((plural, target), set())

    def in_database(self, plural: str, database: str) -> list[Key]:
        """Resources of a kind whose target lies in a database."""
        prefix = f"{database}."
        return [
            k
            for (p, t), keys in self._by_target.items()
            if p == plural and t.startswith(prefix)
            for k in keys
        ]

    def peers(self, resource: Resource, target: str) -> list[Resource]:
        """Other live resources of the kind with the same target."""
        keys = self.about(resource.key.plural, target) - {resource.key}
        found = (self._resources.get(k) for k in keys)
        return [r for r in found if r is not None and r.deleted is None]

    def others(self, resource: Resource, target: str) -> list[Resource]:
        """Live resources of other kinds with the same target."""
        keys = {
            key
            for (plural, about), found in self._by_target.items()
            if about == target and plural != resource.key.plural
            for key in found
        }
        found = (self._resources.get(k) for k in sorted(keys))
        return [r for r in found if r is not None and r.deleted is None]

    def of_kind(self, plural: str) -> list[Resource]:
        return [r for k, r in self._resources.items() if k.plural == plural]

    def by_uid(self, uid: str) -> Resource | None:
        """The resource with a UID."""
        return next((r for r in self._resources.values() if r.uid == uid), None)

    def in_namespace(self, namespace: str) -> list[Resource]:
        return [r for k, r in self._resources.items() if k.namespace == namespace]

    def _unfile(self, key: Key) -> None:
        slot = self._target_of.pop(key, None)
        if slot is not None:
            members = self._by_target[slot]
            members.discard(key)
            if not members:
                del self._by_target[slot]


def older(version: str, than: str) -> bool:
    """Whether one resourceVersion of an object comes before another.

    They are decimal numbers that grow (https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions);
    anything else is taken as new.
    """
    return version.isdecimal() and than.isdecimal() and int(version) < int(than)
