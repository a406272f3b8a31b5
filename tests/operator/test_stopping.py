"""An operator that is told to end does so in a few seconds, whatever it is waiting for."""

import asyncio
import socket
from collections.abc import Callable
from time import monotonic

import pytest
from tcp_relay import Relay

from testbed.pytest_operator import OperatorProcess, World
from testbed.stores.mongodb import MongoDB

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

SECONDS = 9.0
"""The longest wait of an end in order is for two answers of a silent API server, 3 s each. The rest is for a busy
machine; a pod has 30 s.
"""


async def ends(operator: OperatorProcess) -> None:
    """It is told to, and ends in order."""
    asked = monotonic()
    await asyncio.to_thread(operator.stop)
    assert monotonic() - asked < SECONDS
    assert "did not end in order" not in operator.log


async def alive(world: World, operator: OperatorProcess) -> None:
    async def answers() -> bool:
        return operator.probe("healthz")[0] != 0

    await world.until(answers, 30, "the process to answer")


async def test_while_mongodb_is_silent(world: World, private_mongodb: Callable[..., MongoDB]) -> None:
    server = private_mongodb()
    operator = world.start_operator(MONGODB_URI=server.uri)
    await world.create("Collection", "users", {})
    await world.ready("Collection", "users")
    server.freeze()
    try:
        await ends(operator)
    finally:
        server.thaw()
    path = f"/apis/coordination.k8s.io/v1/namespaces/{world.namespace}/leases/lucid-storage-operator"
    lease = await world.kube.get(path)
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == "", "another replica need not wait for the lease to run out"


async def test_while_mongodb_is_being_looked_for(world: World) -> None:
    """A server takes the driver's connection and never says a word; two dozen resources want it meanwhile."""
    for n in range(24):
        await world.create("Collection", f"c{n}", {})
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        uri = f"mongodb://127.0.0.1:{deaf.getsockname()[1]}/"
        deaf.settimeout(30)
        operator = world.operator(MONGODB_URI=uri)
        operator.start_only()
        connection, _ = await asyncio.to_thread(deaf.accept)
        await ends(operator)
        connection.close()


@pytest.mark.parametrize("moment", ["leading", "standing by", "before the lease was asked for"])
async def test_while_the_api_server_is_silent(mongo_world: World, api_relay: Relay, moment: str) -> None:
    if moment == "before the lease was asked for":
        api_relay.lifetime = 0
        operators = [mongo_world.operator()]
        operators[0].start_only()
        await alive(mongo_world, operators[0])
    else:
        operators = [mongo_world.start_operator() for _ in ("leads", "stands by")]
        await mongo_world.create("Collection", "users", {})
        await mongo_world.ready("Collection", "users")
        api_relay.lifetime = 0
        api_relay.cut()
    await ends(operators[-1] if moment == "standing by" else operators[0])


async def test_a_leader_and_its_successor_at_any_moment_of_the_handover(mongo_world: World) -> None:
    for n in range(12):
        await mongo_world.create("Collection", f"c{n}", {})
    for pause in (0.0, 0.4, 0.8):
        first, second = (mongo_world.operator(LEASE_SECONDS="3") for _ in range(2))
        first.start_only()
        await alive(mongo_world, first)
        second.start_only()
        await alive(mongo_world, second)
        await ends(first)
        await asyncio.sleep(pause)  # the moment itself is what is tried
        await ends(second)
