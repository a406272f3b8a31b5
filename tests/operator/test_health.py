"""What the probes tell: a lost store is said and restarts nothing, a lost API server makes a replica not ready."""

from collections.abc import Callable
from time import monotonic

import pytest
from tcp_relay import Relay

from testbed.cluster.controlplane import ControlPlane
from testbed.pytest_operator import World
from testbed.stores.mongodb import MongoDB

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]


async def test_a_lost_store_is_told_and_fails_no_probe(
    world: World, private_mongodb: Callable[..., MongoDB]
) -> None:
    server = private_mongodb()
    operator = world.start_operator(MONGODB_URI=server.uri)
    await world.create("Collection", "users", {})
    await world.ready("Collection", "users")
    store = "mongodb (operator)"
    assert operator.probe("readyz")[1]["checks"][store]["ok"] is True
    server.kill()

    async def told() -> bool:
        # A watch that ended first says so without an address; whoever dials next has one.
        check = operator.probe("readyz")[1]["checks"][store]
        return check["ok"] is False and server.addresses[0] in check["message"]

    await world.until(told, 30, "the lost store to be told with its address")
    assert operator.metric("lucid_store_up", engine="mongodb") == 0
    status, _ = operator.probe("readyz")
    assert status == 200, "one lost store must not take the REST API and all other stores away"
    assert operator.probe("healthz")[0] == 200
    server.start()

    async def back() -> bool:
        return operator.probe("readyz")[1]["checks"][store]["ok"] is True

    await world.until(back, 60, "the store to be told as back")
    assert operator.metric("lucid_store_up", engine="mongodb") == 1


async def test_without_the_api_server_a_leader_is_not_ready_and_ends_in_time(
    mongo_world: World, api_relay: Relay
) -> None:
    operator = mongo_world.start_operator(LEASE_SECONDS="30")
    await mongo_world.create("Collection", "users", {})
    await mongo_world.ready("Collection", "users")
    assert operator.probe("readyz")[1]["checks"]["apiserver"]["ok"] is True
    api_relay.refuse()
    lost = monotonic()

    async def told() -> bool:
        return operator.probe("readyz")[0] == 503

    await mongo_world.until(told, 15, "/readyz to fail")
    assert operator.probe("readyz")[1]["failed"] == ["apiserver"]
    assert operator.probe("healthz")[0] == 200

    async def ended() -> bool:
        return not operator.running()

    await mongo_world.until(ended, 30, "the leader to end")
    assert monotonic() - lost < 30, "it ends before another replica may act"


async def test_a_replica_that_cannot_reach_the_api_server_does_not_pretend_to_stand_by(
    mongo_world: World, api_relay: Relay
) -> None:
    api_relay.refuse()
    operator = mongo_world.operator()
    operator.start_only()

    async def told() -> bool:
        status, body = operator.probe("readyz")
        return status == 503 and body["failed"] == ["apiserver"]

    await mongo_world.until(told, 30, "/readyz to fail")
    assert operator.probe("healthz")[0] == 200, "a restart would not help"
    api_relay.accept()

    async def ready() -> bool:
        return operator.ready()

    await mongo_world.until(ready, 30, "the replica to be ready")


async def test_a_replica_that_has_not_looked_at_everything_is_not_ready(
    mongo_world: World, control_plane: ControlPlane
) -> None:
    for n in range(40):
        await mongo_world.create("Collection", f"c{n}", {})
    operator = mongo_world.operator()
    operator.start_only()

    async def ready() -> bool:
        return operator.ready()

    await mongo_world.until(ready, 40, "readiness")
    for n in range(40):
        status = (await mongo_world.get("Collection", f"c{n}")).get("status")
        assert status, f"c{n} was not looked at when /readyz said so"
