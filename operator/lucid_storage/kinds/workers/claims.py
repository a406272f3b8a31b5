"""One dump at a time for each deployment, across namespaces.

What runs is written in the statuses; what is about to run is remembered here, between the decision and the moment at
which its status is known. Slices and incrementals are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable

from lucid_storage.kinds.identity import same_server
from lucid_storage.kube.resources import Key, Resource

ACTIVE = frozenset({"Running", "Verifying", "Planning", "Loading", "Replaying", "Swapping"})
"""Phases of Backups and Restores in which a worker is at a deployment."""


MOST_CHARACTERS = 256
"""Of what is waited for; status has no room for more."""


class DumpClaims:
    """Who has which deployment."""

    def __init__(self) -> None:
        self._held: dict[Key, str] = {}

    def take(self, key: Key, deployment: str, others: Iterable[Resource]) -> Key | None:
        """None when the deployment is ours now; else who has it, or who came first."""
        for holder, held in self._held.items():
            if holder != key and same_server(held, deployment):
                return holder
        for other in others:
            if other.key != key and _at(other, deployment):
                return other.key
        self._held[key] = deployment
        return None

    def behind(self, resource: Resource, deployment: str, others: Iterable[Resource]) -> str | None:
        """Who is to be waited for, in words of the resource's namespace. No await: to ask and to claim is one step.

        Who has the deployment goes on, whoever stands in line: they wait for it. Who is to wait has none.
        """
        known = list(others)
        holder = self._senior(resource, deployment, known) or self.take(resource.key, deployment, known)
        if holder is None:
            return None
        self.give(resource.key)
        if holder.namespace != resource.key.namespace:
            return "a backup or restore of another namespace"
        words = f"{'restore' if holder.plural == 'restores' else 'backup'} {holder.name}"
        return words if len(words) <= MOST_CHARACTERS else f"{words[: MOST_CHARACTERS - 1]}…"

    def _senior(self, resource: Resource, deployment: str, known: Iterable[Resource]) -> Key | None:
        """The first in line before it, unless it is at the deployment already."""
        held = self._held.get(resource.key)
        if held is not None and same_server(held, deployment):
            return None
        line = [other for other in known if other.key != resource.key and waiting(other, deployment)]
        first = min(line, key=lambda other: other.seniority, default=resource)
        return first.key if first.seniority < resource.seniority else None

    def give(self, key: Key) -> None:
        """It is over, or it was not begun."""
        self._held.pop(key, None)


def waiting(resource: Resource, deployment: str) -> bool:
    """Whether a resource stands in the line for a deployment."""
    return (
        resource.deleted is None
        and not resource.paused
        and resource.status.get("phase") == "Queued"
        and _same(resource, deployment)
    )


def _at(resource: Resource, deployment: str) -> bool:
    # Status says what is made: an incremental that finds nothing to build on becomes a full.
    kind = resource.status.get("type") or resource.spec.get("type") or "full"
    return kind == "full" and resource.status.get("phase") in ACTIVE and _same(resource, deployment)


def _same(resource: Resource, deployment: str) -> bool:
    identity = resource.status.get("serverIdentity")
    return isinstance(identity, str) and same_server(identity, deployment)
