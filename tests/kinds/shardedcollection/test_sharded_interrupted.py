"""The operator dies at any step: what comes back finishes the work, and nothing that cannot be undone happens twice."""

from typing import Any

import pytest
from cluster_double import ClusterDouble, Life
from sharded_builder import REGION, SESSION

from lucid_storage.errors import ServerRefusedError, StoreUnavailableError
from lucid_storage.kinds import longcalls

REFINED = (("region", 1), ("order_id", 1))
ZONE = {"name": "europe", "shards": ["s0"], "ranges": [{"min": {"region": "EU"}, "max": {"region": "EV"}}]}
MOVED = {**ZONE, "shards": ["s1"], "ranges": [{"min": {"region": "A"}, "max": {"region": "Z"}}]}
WRITES = ["enable", "shard", "add", "assign", "balancing"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look waits no longer for a call than this double needs to begin."""
    monkeypatch.setattr(longcalls, "QUICK_SECONDS", 0.01)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("step", range(len(WRITES)))
async def test_sharding_with_zones_and_balancing_is_finished_once(step: int, before: bool) -> None:
    cluster = ClusterDouble(die_at=step, before=before)
    life = Life(cluster, REGION, zones=[ZONE], balancing={"enabled": False})
    status = await life.until_ready()
    assert cluster.state is not None
    assert cluster.state.key == REGION
    assert cluster.state.balancing is False
    assert [zone for zone, _ in cluster.ranges] == ["europe"]
    assert cluster.writes.count("shard") == 1
    assert cluster.writes.count("assign") == 1
    assert status["key"] == "region:1"
    assert "operation" not in status
    assert "backupNeededSince" not in status


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("step", range(4))
async def test_moved_zones_are_moved_once(step: int, before: bool) -> None:
    cluster = ClusterDouble()
    life = Life(cluster, REGION, zones=[ZONE])
    await life.until_ready()
    cluster.die_at, cluster.before = len(cluster.writes) + step, before
    life.change(REGION, zones=[MOVED])
    await life.until_ready()
    assert cluster.members == {"europe": {"s1"}}
    assert [bounds.minimum for _, bounds in cluster.ranges] == [{"region": "A"}]


@pytest.mark.parametrize("before", [True, False])
async def test_a_key_is_refined_once_and_the_need_of_a_backup_survives(before: bool) -> None:
    cluster = ClusterDouble(keys=(REFINED,))
    life = Life(cluster, REGION)
    await life.until_ready()
    cluster.die_at, cluster.before = len(cluster.writes), before
    life.change(REFINED, changePolicy="Refine")
    status = await life.until_ready()
    assert cluster.writes.count("refine") == 1
    assert (status["key"], "backupNeededSince" in status) == ("region:1, order_id:1", True)
    assert [e.reason for e in life.events].count("ShardKeyChanged") == 1


@pytest.mark.parametrize("before", [True, False])
async def test_a_resharding_is_begun_once_and_the_need_of_a_backup_survives(before: bool) -> None:
    cluster = ClusterDouble(keys=(SESSION,))
    life = Life(cluster, REGION)
    await life.until_ready()
    cluster.die_at, cluster.before = len(cluster.writes), before
    life.change(SESSION, changePolicy="Reshard")
    status = await life.until_ready()
    assert cluster.writes.count("reshard") == 1
    assert (status["key"], "backupNeededSince" in status) == ("session_id:hashed", True)
    assert "operation" not in status
    assert [e.reason for e in life.events].count("ShardKeyChanged") == 1


@pytest.mark.parametrize("looks", range(1, 3))
async def test_an_operator_that_comes_while_resharding_runs_tells_it_and_waits(looks: int) -> None:
    cluster = ClusterDouble(keys=(SESSION,))
    life = Life(cluster, REGION)
    await life.until_ready()
    life.change(SESSION, changePolicy="Reshard")
    for _ in range(looks):
        await life.look()  # each time another operator
        assert (life.ready["status"], life.ready["reason"]) == ("False", "Resharding")
        assert life.status["progress"] == "10%"
    await life.until_ready()
    assert cluster.writes.count("reshard") == 1


async def test_a_resharding_that_the_server_gave_up_is_not_begun_again_for_the_same_spec() -> None:
    refused = ServerRefusedError("cannot reshard: the operation was aborted.")
    cluster = ClusterDouble(keys=(SESSION,), reshard_error=refused)
    life = Life(cluster, REGION)
    await life.until_ready()
    life.change(SESSION, changePolicy="Reshard")
    for _ in range(5):
        await life.look()
    assert cluster.writes.count("reshard") == 1
    assert (life.ready["reason"], "aborted" in life.ready["message"]) == ("ServerRefused", True)
    cluster.reshard_error = None
    life.change(SESSION, driftPolicy="Report")
    status = await life.until_ready()
    assert status["key"] == "session_id:hashed"
    assert "failure" not in status


async def test_a_lost_connection_is_no_refusal() -> None:
    lost: Any = StoreUnavailableError("the connection was lost; it is tried again.")
    cluster = ClusterDouble(keys=(SESSION,), reshard_error=lost)
    life = Life(cluster, REGION)
    await life.until_ready()
    life.change(SESSION, changePolicy="Reshard")
    await life.look()
    assert "failure" not in life.status
    cluster.reshard_error = None
    assert (await life.until_ready())["key"] == "session_id:hashed"
