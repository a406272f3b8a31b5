"""The operator's connections to the API server go silent without a reset."""

import math
import uuid
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from pymongo.database import Database
from tcp_relay import Relay

from testbed.cluster.controlplane import LOOPBACK, ControlPlane
from testbed.pytest_operator import World

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver, pytest.mark.slow]

WITHIN_SECONDS = 90.0


@pytest.fixture
def relay(
    mongo_world: World, control_plane: ControlPlane, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Relay]:
    """Between the operator and the API server; the test itself goes past it. Takes a lifetime of connections."""
    made = Relay(control_plane.port, getattr(request, "param", math.inf))
    config = control_plane.client_config(
        "admin", server=f"https://{LOOPBACK}:{made.port}", path=tmp_path / "kubeconfig"
    )
    mongo_world.environment["KUBECONFIG"] = str(config)
    yield made
    made.close()


async def test_the_next_change_is_handled_within_ninety_seconds(
    mongo_world: World, db: Database[Any], relay: Relay
) -> None:
    operator = mongo_world.start_operator()
    await mongo_world.create("Collection", "before", {})
    await mongo_world.create("Collection", "doomed", {"deletionPolicy": "Delete"})
    await mongo_world.ready("Collection", "before")
    await mongo_world.ready("Collection", "doomed")
    relay.cut()
    cut = monotonic()
    await mongo_world.create("Collection", "after", {})
    await mongo_world.patch("Collection", "before", {"spec": {"validationLevel": "strict"}})
    await mongo_world.delete("Collection", "doomed", wait=None)
    await mongo_world.ready("Collection", "after", WITHIN_SECONDS)
    await mongo_world.ready("Collection", "before", WITHIN_SECONDS)

    async def gone() -> bool:
        return await mongo_world.kube.get(mongo_world.path("Collection", "doomed")) is None

    await mongo_world.until(gone, WITHIN_SECONDS, "the deletion to be handled")
    assert monotonic() - cut < WITHIN_SECONDS
    assert set(db.list_collection_names()) == {"before", "after"}
    assert operator.running(), "it survives without a restart"
    assert operator.probe("healthz")[0] == 200
    assert operator.metric("lucid_watch_missed_total") > 0, (
        "the comparison found it before the watch was opened again"
    )

    async def watched() -> bool:
        """A change is heard of at once again, and not by comparing."""
        name = f"later-{uuid.uuid4().hex[:8]}"
        missed = operator.metric("lucid_watch_missed_total")
        await mongo_world.create("Collection", name, {})
        await mongo_world.ready("Collection", name, WITHIN_SECONDS)
        return operator.metric("lucid_watch_missed_total") == missed

    await mongo_world.until(watched, WITHIN_SECONDS, "the watch to tell again")


@pytest.mark.parametrize("relay", [5.0], indirect=True)
async def test_connections_that_all_go_silent_cost_neither_a_change_nor_the_lease(
    mongo_world: World, db: Database[Any], relay: Relay
) -> None:
    operator = mongo_world.start_operator()
    await mongo_world.create("Collection", "before", {})
    await mongo_world.ready("Collection", "before")

    old = monotonic() + relay.lifetime

    async def silent() -> bool:
        return monotonic() > old

    await mongo_world.until(silent, relay.lifetime + 5, "the watch to be silent")
    await mongo_world.create("Collection", "after", {})
    await mongo_world.ready("Collection", "after", WITHIN_SECONDS)
    assert set(db.list_collection_names()) == {"before", "after"}
    assert operator.running()
    assert operator.metric("lucid_leader") == 1
