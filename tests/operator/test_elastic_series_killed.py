"""The operator killed while it makes or changes a series on a real Elasticsearch: what comes back finishes it, once."""

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from elastic_gate import Gate
from operator_bed import looked_at, said

from lucid_storage.kube.client import Json
from testbed.pytest_operator import World
from testbed.stores.elasticsearch import Elasticsearch

pytestmark = [pytest.mark.elasticsearch, pytest.mark.apiserver]

ALONE = {"LEADER_ELECTION": "false"}
"""One is dead before the next begins."""


@pytest.fixture
def gate(world: World, elasticsearch_server: Elasticsearch) -> Iterator[Gate]:
    made = Gate(elasticsearch_server.port)
    world.environment["ELASTICSEARCH_URL"] = made.url
    yield made
    for operator in world.operators:
        operator.stop()
    made.close()


@pytest.fixture
def stem(elasticsearch_server: Elasticsearch) -> Iterator[str]:
    name = f"lucid-k{uuid.uuid4().hex[:10]}"
    yield name
    elasticsearch_server.delete_with_prefix(name)


def spec(stem: str, *fields: str, **more: Any) -> Json:
    properties = {field: {"type": "keyword"} for field in fields}
    block = {"pattern": f"{stem}-{{YYYY.MM}}", "mappings": {"properties": properties}, **more}
    return {"engine": "elasticsearch", "elasticsearch": block, "deletionPolicy": "Delete"}


async def killed(world: World, gate: Gate, after: int, *, unheard: bool) -> None:
    """An operator works until so many writes are done, and is killed at the next."""
    gate.hold(after, unheard=unheard)
    operator = world.operator(**ALONE)
    operator.start_only()
    assert await asyncio.to_thread(gate.held.wait, 60), f"only these came: {gate.writes}"
    operator.kill()
    gate.open()


async def test_a_series_whose_operator_is_killed_again_and_again_is_finished_once(
    world: World, gate: Gate, stem: str, elasticsearch_server: Elasticsearch
) -> None:
    await world.create("Index", "events", spec(stem, "id", settings={"number_of_replicas": 0}))
    await killed(world, gate, 1, unheard=False)  # with a template and no index
    await killed(world, gate, 1, unheard=True)  # with both indices, of which one is not known to be made
    changed = spec(stem, "id", "user", settings={"refresh_interval": "5s"}, aliases=[f"{stem}-all"])
    changed["elasticsearch"]["settings"]["number_of_replicas"] = None
    await world.patch("Index", "events", {"spec": changed})
    await killed(world, gate, 3, unheard=True)  # with some of the changes made
    last = world.start_operator(**ALONE)
    status = await world.ready("Index", "events", 60)
    assert status["origin"] == "Created"
    assert status["elasticsearch"]["indices"] == 2
    made = elasticsearch_server.request("GET", f"/{stem}-*")
    assert len(made) == 2, "this month's index and the next"
    for index in made.values():
        assert set(index["mappings"]["properties"]) == {"id", "user"}
        assert index["settings"]["index"]["refresh_interval"] == "5s"
        assert index["settings"]["index"]["number_of_replicas"] == "1", (
            "no longer declared: the default again"
        )
        assert f"{stem}-all" in index["aliases"]
    writing = [name for name, index in made.items() if index["aliases"].get(stem, {}).get("is_write_index")]
    assert writing == [status["elasticsearch"]["writeIndex"]]
    creations = [w for w in gate.writes if w.startswith(f"PUT /{stem}-") and w.count("/") == 1]
    assert len(creations) == len({w.split("?")[0] for w in creations}) == 2, "each was made once"
    written = len(gate.writes)
    asked = await looked_at(world, last, "Index", "events")
    assert len(gate.writes) == written, "nothing is left to do"
    seen = await world.get("Index", "events")
    assert said(seen)["status"] == "True"
    assert seen["metadata"]["resourceVersion"] == asked["metadata"]["resourceVersion"], "nothing was written"
    await world.delete("Index", "events")
    assert elasticsearch_server.request("GET", f"/{stem}-*") == {}, "all of it is known to be ours"
