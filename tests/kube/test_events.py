"""Events are in a form that the API server takes, whatever the name and the sentence."""

import asyncio
import re
from typing import Any, cast

import pytest

from lucid_storage.kube.events import Event, EventRecorder
from lucid_storage.kube.resources import Key

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class Posted:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.bodies: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def request(self, method: str, path: str, *, body: dict[str, Any]) -> dict[str, Any]:
        self.bodies.put_nowait(body)
        return {}


@pytest.mark.parametrize("name", ["users", "a" * 199 + "-b", "a" * 198 + ".-b", "x" * 253])
async def test_an_event_fits_the_api_servers_bounds(name: str) -> None:
    posted = Posted()
    recorder = EventRecorder(cast("Any", posted))
    recorder.emit(Event(Key("indexes", "ns", name), "Index", "u", "Ready", "ключ…" * 400))
    posting = asyncio.create_task(recorder.run())
    body = await asyncio.wait_for(posted.bodies.get(), 5)
    posting.cancel()
    assert len(body["note"].encode()) <= 1024
    assert SUBDOMAIN.fullmatch(body["metadata"]["name"])
    assert len(body["metadata"]["name"]) <= 253
