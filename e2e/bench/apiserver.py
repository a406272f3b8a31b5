"""What reached the API server: counted requests, and every version of every object as a watch tells it."""

import asyncio
import json
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

import aiohttp

from lucid_storage.kube.client import resource_path
from lucid_storage.models.meta import GROUP
from testbed.cluster.controlplane import ControlPlane

WRITING_VERBS = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"})
_REQUESTS = "apiserver_request_total{"
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_LINE_LIMIT = 4 * 1024 * 1024


@dataclass
class Versions:
    """Changes of the objects of a namespace, in the order in which the API server made them."""

    changes: list[tuple[float, str]] = field(default_factory=list)
    """When we heard of each MODIFIED, on the monotonic clock, and of which object ("kind/name")."""
    ready: dict[str, float] = field(default_factory=dict)
    """When each object was first seen Ready for its current generation."""

    def each(self) -> Counter[str]:
        """Changes by object."""
        return Counter(name for _, name in self.changes)


class ApiServer:
    """The API server of the bench, asked as the administrator."""

    def __init__(self, plane: ControlPlane) -> None:
        self._server = plane.server
        context = ssl.create_default_context(cafile=str(plane.pki.authority))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context),
            headers={"Authorization": f"Bearer {plane.pki.token('admin')}"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            read_bufsize=_LINE_LIMIT,
        )

    async def close(self) -> None:
        await self._session.close()

    async def writes(self) -> int:
        """Writing requests so far on our own kinds and on Events, also those that changed nothing."""
        async with self._session.get(f"{self._server}/metrics") as answer:
            answer.raise_for_status()
            text = await answer.text()
        lines = (line for line in text.splitlines() if line.startswith(_REQUESTS))
        return sum(int(float(line.rpartition(" ")[2])) for line in lines if _is_write(line))

    @asynccontextmanager
    async def watching(self, namespace: str, plurals: tuple[str, ...]) -> AsyncIterator[Versions]:
        """Versions that come while the block runs. Raises what a watch that broke raised."""
        versions = Versions()
        starts = [await self._newest(namespace, plural) for plural in plurals]
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._watch(namespace, plural, start, versions))
                for plural, start in zip(plurals, starts, strict=True)
            ]
            yield versions
            for task in tasks:
                task.cancel()

    async def _newest(self, namespace: str, plural: str) -> str:
        url = f"{self._server}{resource_path(plural, namespace)}?limit=1"
        async with self._session.get(url) as answer:
            answer.raise_for_status()
            return str((await answer.json())["metadata"]["resourceVersion"])

    async def _watch(self, namespace: str, plural: str, start: str, versions: Versions) -> None:
        query = f"watch=1&resourceVersion={start}&timeoutSeconds=3600"
        async with self._session.get(f"{self._server}{resource_path(plural, namespace)}?{query}") as answer:
            answer.raise_for_status()
            async for line in answer.content:
                _note(json.loads(line), monotonic(), plural, versions)
        raise ConnectionError(f"the watch on {plural} ended")


def _is_write(text: str) -> bool:
    labels = dict(_LABEL.findall(text))
    ours = labels.get("group") == GROUP
    events = labels.get("resource") == "events" and labels.get("group") in {"", "events.k8s.io"}
    return labels.get("verb") in WRITING_VERBS and (ours or events)


def _note(event: dict[str, object], now: float, plural: str, versions: Versions) -> None:
    body = event["object"]
    assert isinstance(body, dict)
    if event["type"] == "ERROR":
        raise ConnectionError(f"the watch on {plural} was refused: {body.get('message')}")
    name = f"{plural}/{body['metadata']['name']}"
    if event["type"] == "MODIFIED":
        versions.changes.append((now, name))
    if name not in versions.ready and is_ready(body):
        versions.ready[name] = now


def is_ready(body: dict[str, object]) -> bool:
    """Whether an object is Ready for its current generation."""
    status, metadata = body.get("status") or {}, body["metadata"]
    assert isinstance(status, dict)
    assert isinstance(metadata, dict)
    return any(
        condition["type"] == "Ready"
        and condition["status"] == "True"
        and condition.get("observedGeneration") == metadata["generation"]
        for condition in status.get("conditions") or []
    )
