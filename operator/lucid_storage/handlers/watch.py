"""kopf's part: it watches, and every event becomes a trigger of the engine.

Only `on.event` handlers are used: kopf then keeps no progress, no diff-base and no finalizer in the objects, and
our own queue does the retries. docs/decisions/kopf.md has the measurements.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import kopf

from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.meta import GROUP, VERSION

INACTIVITY_SECONDS = 70.0
"""A watch that is silent for this long is opened again. The API server sends a bookmark about every minute."""


class Watch:
    """One kopf operator over the given kinds."""

    def __init__(
        self,
        plurals: Sequence[str],
        *,
        seen: Callable[[Resource], None],
        gone: Callable[[Key], None],
        on_claim: Callable[[str, str], None] | None = None,
        namespaces: Sequence[str] = (),
        on_started: Callable[[], None] = lambda: None,
    ) -> None:
        self._seen = seen
        self._gone = gone
        self._on_started = on_started
        self._namespaces = list(namespaces)
        self._registry = kopf.OperatorRegistry()
        for plural in plurals:
            kopf.on.event(GROUP, VERSION, plural, registry=self._registry)(self._handler(plural))
        if on_claim is not None:
            kopf.on.event("", "v1", "persistentvolumeclaims", registry=self._registry)(
                _claim_handler(on_claim)
            )
        kopf.on.login(registry=self._registry)(_login)
        kopf.on.cleanup(registry=self._registry)(self._end)
        self._running: asyncio.Task[None] | None = None
        self._ending = False

    async def run(self) -> None:
        """Watch until the task is cancelled. `on_started` is called once kopf has taken the process's signals."""
        self._running = asyncio.current_task()
        others = asyncio.all_tasks()
        started = await kopf.spawn_tasks(
            registry=self._registry,
            settings=_settings(),
            standalone=True,
            # kopf would look up the user's name, which a pod's numeric user does not have.
            identity=cast("Any", "lucid-storage"),
            namespaces=self._namespaces,
            clusterwide=not self._namespaces,
        )
        self._on_started()
        try:
            await kopf.run_tasks(started, ignored=others)
        except asyncio.CancelledError:
            if not self._ending:
                raise

    async def _end(self, **_: Any) -> None:
        """Having stopped, kopf waits for every task of the loop, which here are the operator's own and do not end by
        themselves. Being cancelled once more it goes at once.
        """
        self._ending = True
        if self._running is not None:
            self._running.cancel()

    def _handler(self, plural: str) -> Callable[..., Awaitable[None]]:
        async def on_event(event: Any, **_: Any) -> None:
            resource = Resource.from_body(plural, event["object"])
            if event["type"] == "DELETED":
                self._gone(resource.key)
            else:
                self._seen(resource)

        return on_event


def _claim_handler(on_claim: Callable[[str, str], None]) -> Callable[..., Awaitable[None]]:
    """Tells namespace and name of each claim that was made, changed or deleted."""

    async def on_event(event: Any, **_: Any) -> None:
        meta = event["object"]["metadata"]
        on_claim(meta["namespace"], meta["name"])

    return on_event


class _NothingCompared(kopf.DiffBaseStorage):
    """No handler compares versions of an object, so none is copied, kept in memory or written into the object."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return cast("kopf.BodyEssence", {})

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        return None


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # events are ours
    settings.watching.inactivity_timeout = INACTIVITY_SECONDS
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 60
    settings.batching.idle_timeout = 1  # a worker task for each object ends soon after its last event
    settings.batching.exit_timeout = 1
    settings.scanning.disabled = True
    settings.persistence.diffbase_storage = _NothingCompared()
    return settings
