"""What a look needs besides its kind, and what comes out of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lucid_storage.kinds.metrics import Metrics
from lucid_storage.kinds.protection import Protector
from lucid_storage.kube.events import EventRecorder
from lucid_storage.kube.finalizers import Finalizers
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.kube.status import StatusWriter

LET_GO_SECONDS = 45.0
"""How long a Delete is tried in a terminating namespace; a namespace goes within a minute."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the engine does next with the key."""

    again_seconds: float | None = None
    """Look again after this long."""
    failed: bool = False
    """Look again after the back-off."""
    gone: bool = False


@dataclass(slots=True)
class Services:
    """What a cycle needs besides its kind."""

    status: StatusWriter
    events: EventRecorder
    finalizers: Finalizers
    metrics: Metrics
    namespace_terminating: Callable[[str], Awaitable[bool]]
    peers: Callable[[Resource, str], Sequence[Resource]]
    """Other live resources of the kind with this target; also files the resource under it."""
    touch_dependents: Callable[[Key, str], None]
    """The real object behind a target was made or changed: whoever waits for it looks again."""
    remember: Callable[[Resource, str], None]
    """The status of this resource was written under this resourceVersion."""
    others: Callable[[Resource, str], Sequence[Resource]] = lambda resource, target: ()
    """Live resources of other kinds with this target."""
    forbid_drops: bool = False
    swapping: Callable[[str, str], str | None] = lambda identity, database: None
    """(server, database) -> the Restore that swaps collections there now; nothing is written meanwhile."""
    protector: Protector | None = None
    """Makes the Backups that backupBefore asks for; None where no kind asks for one."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def seconds_left(self, resource: Resource) -> float | None:
        """How long a deletion that fails may still be tried; None means for ever."""
        since = resource.deleting_since()
        if since is None or not await self.namespace_terminating(resource.key.namespace):
            return None
        return LET_GO_SECONDS - (self.now() - since).total_seconds()
