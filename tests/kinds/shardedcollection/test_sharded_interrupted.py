"""The operator dies, its router goes away or others act at any step: what comes back finishes the work, nothing that
cannot be undone happens twice, and none of it happens to what was not examined.
"""

from typing import Any

import pytest
from cluster_double import RESHARDING_LOOKS, ClusterDouble, KilledError
from sharded_builder import REGION, SESSION
from sharded_life import Life

from lucid_storage.errors import ServerRefusedError, StoreUnavailableError
from lucid_storage.kinds import longcalls
from lucid_storage.models.meta import ACCEPT_SHARD_KEY
from lucid_storage.stores.mongodb.sharding.types import Resharding, ReshardPhase

REFINED = (("region", 1), ("order_id", 1))
ZONE = {"name": "europe", "shards": ["s0"], "ranges": [{"min": {"region": "EU"}, "max": {"region": "EV"}}]}
MOVED = {**ZONE, "shards": ["s1"], "ranges": [{"min": {"region": "A"}, "max": {"region": "Z"}}]}
WRITES = ["enable", "shard", "add", "assign", "balancing"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look waits no longer for a call than this double needs to begin."""
    monkeypatch.setattr(longcalls, "QUICK_SECONDS", 0.01)


def router_lost() -> StoreUnavailableError:
    return StoreUnavailableError("the connection was lost; it is tried again.")


ENDS = pytest.mark.parametrize("end", [KilledError, router_lost])


@ENDS
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("step", range(len(WRITES)))
async def test_sharding_with_zones_and_balancing_is_finished_once(step: int, before: bool, end: Any) -> None:
    cluster = ClusterDouble(die_at=step, before=before, end=end)
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


@ENDS
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("step", range(4))
async def test_moved_zones_are_moved_once(step: int, before: bool, end: Any) -> None:
    cluster = ClusterDouble()
    life = Life(cluster, REGION, zones=[ZONE])
    await life.until_ready()
    cluster.die_at, cluster.before, cluster.end = len(cluster.writes) + step, before, end
    life.change(REGION, zones=[MOVED])
    await life.until_ready()
    assert cluster.members == {"europe": {"s1"}}
    assert [bounds.minimum for _, bounds in cluster.ranges] == [{"region": "A"}]


@ENDS
@pytest.mark.parametrize("before", [True, False])
async def test_a_key_is_refined_once_and_the_need_of_a_backup_survives(before: bool, end: Any) -> None:
    cluster = ClusterDouble(keys=(REFINED,))
    life = Life(cluster, REGION)
    await life.until_ready()
    cluster.die_at, cluster.before, cluster.end = len(cluster.writes), before, end
    life.change(REFINED, changePolicy="Refine")
    status = await life.until_ready()
    assert cluster.writes.count("refine") == 1
    assert (status["key"], "backupNeededSince" in status) == ("region:1, order_id:1", True)
    assert [e.reason for e in life.events].count("ShardKeyChanged") == 1


@ENDS
@pytest.mark.parametrize("before", [True, False])
async def test_a_resharding_is_begun_once_and_the_need_of_a_backup_survives(before: bool, end: Any) -> None:
    cluster = ClusterDouble(keys=(SESSION,))
    life = Life(cluster, REGION)
    await life.until_ready()
    cluster.die_at, cluster.before, cluster.end = len(cluster.writes), before, end
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


@ENDS
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("step", range(2))
async def test_zones_that_are_given_up_for_resharding_are_cleared_once(
    step: int, before: bool, end: Any
) -> None:
    cluster = ClusterDouble(keys=(SESSION,))
    life = Life(cluster, REGION, zones=[ZONE])
    await life.until_ready()
    cluster.die_at, cluster.before, cluster.end = len(cluster.writes) + step, before, end
    life.change(SESSION, changePolicy="Reshard", zones=[])
    status = await life.until_ready()
    assert (cluster.ranges, status["key"]) == ([], "session_id:hashed")
    assert cluster.writes.count("reshard") == 1


async def test_a_router_that_is_away_is_one_clear_condition() -> None:
    cluster = ClusterDouble(die_at=1, end=router_lost)
    life = Life(cluster, REGION)
    outcome = await life.look()
    assert outcome.failed
    assert (life.ready["status"], life.ready["reason"]) == ("False", "StoreUnavailable")
    assert await life.until_ready()


# Somebody else acts


async def test_a_lagging_secondary_does_not_make_a_collection_empty() -> None:
    """It holds documents that the members which are read have not heard of, so nothing is known of them."""
    cluster = ClusterDouble(uuid="c" * 32, documents=10_000, lagging=True, keys=(REGION,))
    life = Life(cluster, REGION)
    await life.look()
    assert cluster.writes == []
    assert life.ready["reason"] == "ShardKeyUnknown"
    assert life.status["preflight"]["documents"] == 10_000
    life.annotations = {ACCEPT_SHARD_KEY: "region:1"}
    await life.until_ready()
    assert cluster.writes == ["enable", "shard"]


@pytest.mark.parametrize("change", ["shard", "refine", "reshard"])
async def test_a_collection_that_is_made_anew_after_the_look_is_looked_at_anew(change: str) -> None:
    cluster = ClusterDouble(uuid="c" * 32, documents=20, keys=(REGION, REFINED, SESSION))
    life = Life(cluster, REGION)
    if change != "shard":
        await life.until_ready()
        key, policy = (REFINED, "Refine") if change == "refine" else (SESSION, "Reshard")
        life.change(key, changePolicy=policy)

    def made_anew(what: str) -> None:
        if what == change:
            cluster.meanwhile = lambda what: None
            cluster.make_anew()

    cluster.meanwhile = made_anew
    writes = len(cluster.writes)
    outcome = await life.look()
    assert outcome.failed
    assert life.ready["reason"] == "CollectionNotReady"
    assert change not in cluster.writes[writes:]
    await life.until_ready()
    assert cluster.writes[-1] == "shard", "the new one is sharded as it is declared"


async def test_documents_that_come_after_an_empty_look_are_examined_first() -> None:
    cluster = ClusterDouble(uuid="c" * 32, documents=0, keys=(REGION,))

    def filled(what: str) -> None:
        if what == "shard":
            cluster.meanwhile = lambda what: None
            cluster.documents = 10_000

    cluster.meanwhile = filled
    life = Life(cluster, REGION)
    outcome = await life.look()
    assert outcome.failed
    assert cluster.state is None
    assert life.ready["reason"] == "Progressing"
    status = await life.until_ready()
    assert status["preflight"]["documents"] == 10_000


async def test_a_resharding_that_another_person_began_is_waited_for_and_not_undone() -> None:
    cluster = ClusterDouble(keys=(SESSION,))
    life = Life(cluster, REGION)
    await life.until_ready()
    cluster.running = Resharding(ReshardPhase.COPYING, SESSION, percent=10)
    cluster.looks_left = RESHARDING_LOOKS
    await life.look()
    assert (life.ready["reason"], "session_id:hashed" in life.ready["message"]) == ("Resharding", True)
    for _ in range(RESHARDING_LOOKS):
        await life.look()
    assert life.ready["reason"] == "KeyDiffers"
    assert "backupNeededSince" in life.status
    assert "reshard" not in cluster.writes


async def test_a_resharding_of_another_person_that_is_aborted_leaves_all_as_it_was() -> None:
    cluster = ClusterDouble(keys=(SESSION,))
    life = Life(cluster, REGION)
    await life.until_ready()
    cluster.running, cluster.looks_left = Resharding(ReshardPhase.COPYING, SESSION), RESHARDING_LOOKS
    await life.look()
    cluster.abort()
    status = await life.until_ready()
    assert (status["key"], "operation" in status, "failure" in status) == ("region:1", False, False)


async def test_a_declared_change_waits_for_another_persons_resharding_and_is_made_after_it_is_aborted() -> (
    None
):
    cluster = ClusterDouble(keys=(SESSION,))
    life = Life(cluster, REGION)
    await life.until_ready()
    cluster.running, cluster.looks_left = Resharding(ReshardPhase.COPYING, (("x", 1),)), RESHARDING_LOOKS
    life.change(SESSION, changePolicy="Reshard")
    await life.look()
    assert life.ready["reason"] == "Resharding"
    cluster.abort()
    cluster.aborted = False
    assert (await life.until_ready())["key"] == "session_id:hashed"


async def test_a_resharding_that_is_aborted_while_no_operator_runs_is_not_begun_again() -> None:
    cluster = ClusterDouble(keys=(SESSION,))
    life = Life(cluster, REGION)
    await life.until_ready()
    life.change(SESSION, changePolicy="Reshard")
    await life.look()
    await life.look()  # another operator, which has seen it run
    cluster.abort()
    for _ in range(3):
        await life.look()
    assert cluster.writes.count("reshard") == 1
    assert (life.ready["reason"], "aborted" in life.ready["message"]) == ("ServerRefused", True)
    cluster.aborted = False
    life.change(SESSION, driftPolicy="Report")
    status = await life.until_ready()
    assert (status["key"], "reshardingSeen" in status) == ("session_id:hashed", False)
