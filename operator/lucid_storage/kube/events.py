"""The one place that emits Kubernetes Events: on transitions only, bounded, and never in the way of the work."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from lucid_storage.errors import LeadershipLostError
from lucid_storage.kube.client import Kube, KubeApiError
from lucid_storage.kube.resources import Key
from lucid_storage.models.meta import API_VERSION

logger = logging.getLogger(__name__)

QUEUE_LIMIT = 1000
NOTE_BYTES = 1000
"""The API server takes 1,024 bytes, not characters."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a resource, for people who run `kubectl describe`."""

    key: Key
    kind: str
    uid: str
    reason: str
    message: str
    warning: bool = False


class EventRecorder:
    """Posts events in the background, one at a time; while the API server is slow the newest are dropped."""

    def __init__(self, kube: Kube, *, component: str = "lucid-storage") -> None:
        self._kube = kube
        self._component = component
        self._queue: asyncio.Queue[Event] = asyncio.Queue(QUEUE_LIMIT)
        self.dropped = 0

    def emit(self, event: Event) -> None:
        """Queue an event; never blocks."""
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Post queued events until cancelled."""
        while True:
            event = await self._queue.get()
            try:
                await self._post(event)
            except (KubeApiError, LeadershipLostError) as error:
                self.dropped += 1
                logger.warning("event %s for %s was not recorded: %s", event.reason, event.key, error)

    async def _post(self, event: Event) -> None:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        body = {
            "metadata": {
                "name": f"{event.key.name[:200].rstrip('-.')}.{uuid4().hex[:16]}",
                "namespace": event.key.namespace,
            },
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": event.kind,
                "namespace": event.key.namespace,
                "name": event.key.name,
                "uid": event.uid,
            },
            "reason": event.reason,
            "note": event.message.encode()[:NOTE_BYTES].decode(errors="ignore"),
            "type": "Warning" if event.warning else "Normal",
            "action": "Reconcile",
            "eventTime": now,
            "reportingController": self._component,
            "reportingInstance": self._component,
        }
        path = f"/apis/events.k8s.io/v1/namespaces/{event.key.namespace}/events"
        await self._kube.request("POST", path, body=body)
