"""A watch that tells nothing any more: what it missed is repaired, and /healthz says so, on a real API server."""

import asyncio
import json
import urllib.error
import urllib.request

import pytest

from lucid_storage.app.health import HealthServer
from lucid_storage.app.leading import Leading
from lucid_storage.kinds.metrics import Metrics
from lucid_storage.kinds.resync import Resync
from lucid_storage.kube.resources import Key
from lucid_storage.models.settings import Settings
from testbed.pytest_operator import World

pytestmark = pytest.mark.apiserver


def probe(port: int) -> tuple[int, list[str]]:
    """Status and failed checks of /healthz."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return answer.status, json.load(answer)["failed"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["failed"]


async def change_again_and_again(world: World, name: str) -> None:
    """At most half a minute of changes, so that each comparison finds one that nobody told."""
    for number in range(600):
        change = {"spec": {"validationLevel": ("strict", "moderate")[number % 2]}}
        await world.patch("Collection", name, change)
        await asyncio.sleep(0.05)


async def test_a_dead_watch_is_found_repaired_and_fails_healthz(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lucid_storage.kinds.resync.IN_FLIGHT_SECONDS", 0.2)
    metrics = Metrics()
    settings = Settings.read({"POD_NAMESPACE": world.namespace, "WATCH_NAMESPACES": world.namespace})
    leading = Leading(settings, world.kube, lambda: None, metrics)
    resync = Resync(world.kube, leading.engine, metrics, [world.namespace], interval=0.1)
    leading.resync = resync
    health = HealthServer(metrics.registry, leading.checks)
    await health.start("127.0.0.1", 0)
    await resync.list_all()
    # Nobody watches: whatever happens from here on is told by the comparison alone.
    comparing = asyncio.create_task(resync.run())
    try:
        assert await asyncio.to_thread(probe, health.port) == (200, [])
        await world.create("Collection", "busy", {})
        changing = asyncio.create_task(change_again_and_again(world, "busy"))

        async def known() -> bool:
            return leading.engine.known_version(Key("collections", world.namespace, "busy")) is not None

        async def dead() -> bool:
            return await asyncio.to_thread(probe, health.port) == (503, ["watch"])

        await world.until(known, 20, "the resource to be found by comparison")
        await world.until(dead, 20, "/healthz to fail for the watch")
        changing.cancel()
        await asyncio.gather(changing, return_exceptions=True)
    finally:
        comparing.cancel()
        await asyncio.gather(comparing, return_exceptions=True)
        await health.stop()
        await leading.close()
