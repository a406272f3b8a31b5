"""What many Volumes look at alike, asked for once in a few seconds: classes, nodes, attachments, pods."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Generic, TypeVar

from lucid_storage.kube.claims import Attachment, Claims, Class, Node, PodUse

FRESH_SECONDS = 3.0

T = TypeVar("T")


class _Shared(Generic[T]):
    """One answer for all who ask within a few seconds; whoever comes meanwhile waits for the same question."""

    def __init__(self, ask: Callable[[], Awaitable[T]], seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._known: tuple[float, T] | None = None
        self._oldest = 0.0
        """What was asked before does not count."""

    async def get(self, *, fresh: bool = False) -> T:
        asked = monotonic()
        async with self._lock:
            oldest = max(self._oldest, asked if fresh else asked - self._seconds)
            if self._known is None or self._known[0] < oldest:
                began = monotonic()
                self._known = (began, await self._ask())
            return self._known[1]

    def forget(self) -> None:
        """Whoever asks next asks anew."""
        self._oldest = monotonic()


class Surroundings:
    """Every call raises KubeApiError."""

    def __init__(
        self,
        claims: Claims,
        *,
        seconds: float = FRESH_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._claims = claims
        self._seconds = seconds
        self._classes = _Shared(claims.classes, seconds)
        self._nodes = _Shared(claims.nodes, seconds)
        self._attachments = _Shared(claims.attachments, seconds)
        self._pods: dict[str, _Shared[list[PodUse]]] = {}
        self.now = now

    async def classes(self, wanted: str | None) -> dict[str, Class]:
        """All of them; asked anew where the wanted one is not among those that are known."""
        known = await self._classes.get()
        return known if wanted is None or wanted in known else await self._classes.get(fresh=True)

    async def nodes(self) -> list[Node]:
        return await self._nodes.get()

    def nodes_changed(self) -> None:
        """What is known of nodes is old."""
        self._nodes.forget()

    async def attachments(self) -> list[Attachment]:
        return await self._attachments.get()

    async def pods(self, namespace: str, *, fresh: bool = False) -> list[PodUse]:
        """Those that are over too. `fresh` asks anew: before something is taken away."""
        shared = self._pods.get(namespace)
        if shared is None:
            shared = self._pods[namespace] = _Shared(
                lambda: self._claims.pods(namespace, ended=True), self._seconds
            )
        return await shared.get(fresh=fresh)

    def keep_only(self, namespaces: set[str]) -> None:
        """Forget namespaces that have no Volume any more."""
        for namespace in [n for n in self._pods if n not in namespaces]:
            del self._pods[namespace]
