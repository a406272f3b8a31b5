"""A series on a server with ILM, replayed in the form that the reference of Elasticsearch 8 documents.

The build of the test bed has no ILM. What is checked is that answers in that form are no difference, how few
requests a look takes, and what is asked of the server where something differs.
"""

from collections.abc import AsyncIterator
from copy import deepcopy
from typing import Any

import pytest

from kinds.index_elasticsearch.elastic_bed import NOVEMBER, UID, Series
from lucid_storage.kinds.contract import Scope
from lucid_storage.stores.elasticsearch.adapter import ElasticCluster
from stores.elasticsearch.recorded_elastic import RecordedElastic, replaying

STEM = "lucid-sessions"
ENDS = {"2026.10": 1793491200000, "2026.11": 1796083200000, "2026.12": 1798761600000}
META = {"managed-by": "lucid-storage", "uid": UID}
TEMPLATE = f"GET /_index_template/{STEM}"
INDICES = f"GET /{STEM}-20*.*"
POLICY = f"GET /_ilm/policy/{STEM}"


def index(month: str) -> dict[str, Any]:
    return {
        "aliases": {STEM: {"is_write_index": month == "2026.11"}},
        "mappings": {"_meta": {"lucid-storage": UID}, "properties": {"id": {"type": "keyword"}}},
        "settings": {
            "index.creation_date": "1790000000000",
            "index.lifecycle.name": STEM,
            "index.lifecycle.origination_date": str(ENDS[month]),
            "index.number_of_replicas": "0",
            "index.number_of_shards": "1",
            "index.priority": "100",
            "index.provided_name": f"{STEM}-{month}",
            "index.routing.allocation.include._tier_preference": "data_content",
            "index.uuid": f"uuid-{month}",
            "index.version.created": "8536000",
        },
    }


POLICY_BODY = {
    "_meta": META,
    "phases": {
        "hot": {"min_age": "0ms", "actions": {"set_priority": {"priority": 100}}},
        "warm": {"min_age": "7d", "actions": {"set_priority": {"priority": 50}}},
        "cold": {"min_age": "30d", "actions": {"set_priority": {"priority": 0}}},
        "delete": {"min_age": "90d", "actions": {"delete": {"delete_searchable_snapshot": True}}},
    },
}
ANSWERS: dict[str, tuple[int, Any]] = {
    "GET /_cluster/state/version": (200, {"cluster_uuid": "kept-uuid"}),
    "GET /_nodes/_all/_none": (200, {"nodes": {"a": {"version": "8.19.2"}}}),
    "GET /_cluster/health": (200, {"number_of_data_nodes": 1}),
    "GET /_ilm/status": (200, {"operation_mode": "RUNNING"}),
    TEMPLATE: (
        200,
        {
            "index_templates": [
                {
                    "name": STEM,
                    "index_template": {
                        "index_patterns": [f"{STEM}-20*.*"],
                        "template": {
                            "settings": {"index.number_of_replicas": "0", "index.lifecycle.name": STEM},
                            "mappings": {"properties": {"id": {"type": "keyword"}}},
                        },
                        "composed_of": [],
                        "priority": 200,
                        "_meta": META,
                    },
                }
            ]
        },
    ),
    INDICES: (200, {f"{STEM}-{month}": index(month) for month in ENDS}),
    f"GET /{STEM}-20*.*/_stats/docs,store": (
        200,
        {
            "indices": {
                f"{STEM}-{month}": {
                    "health": "green",
                    "primaries": {"docs": {"count": 2}},
                    "total": {"store": {"size_in_bytes": 1000}},
                }
                for month in ENDS
            }
        },
    ),
    POLICY: (
        200,
        {STEM: {"version": 1, "modified_date": "2026-11-01T10:00:00.000Z", "policy": POLICY_BODY}},
    ),
}
DECLARED: dict[str, Any] = {
    "mappings": {"properties": {"id": {"type": "keyword"}}},
    "settings": {"number_of_replicas": 0},
    "lifecycle": {"hotDays": 7, "warmDays": 30, "coldDays": 90, "deleteDays": 90},
}


@pytest.fixture
async def server() -> AsyncIterator[RecordedElastic]:
    async with replaying(RecordedElastic(deepcopy(ANSWERS))) as server:
        yield server


@pytest.fixture
async def recorded(server: RecordedElastic) -> AsyncIterator[Series]:
    port = ElasticCluster(server.url, label="test", guard=lambda: None)
    yield Series(port, STEM)
    await port.close()


async def writes_of_one_round(recorded: Series, server: RecordedElastic) -> list[tuple[str, str, Any]]:
    """What is asked of the server before it is looked at again; the answers do not move, so one round is all."""
    kind: Any = recorded.cycle.kind
    recorded.resource.spec["elasticsearch"].update(DECLARED)
    desired = await kind.desired(recorded.resource)
    status = kind.status_type()
    scope = Scope(now=recorded.now, settled=False)
    observed = await kind.observe(recorded.resource, desired, status, (), scope)
    plan = kind.plan(recorded.resource, desired, observed, status, scope)
    assert plan.verdict is None, plan.verdict
    for action in plan.actions:
        await kind.apply(recorded.resource, desired, status, action)
    return [asked for asked in server.asked if asked[0] != "GET"]


async def test_a_series_that_is_right_takes_four_reads_and_no_write(
    recorded: Series, server: RecordedElastic
) -> None:
    status = await recorded.declare(**DECLARED)
    assert recorded.is_ready(), recorded.shown()
    assert status["documents"] == 6
    assert status["elasticsearch"]["managedBy"] == "Server"
    server.asked.clear()
    await recorded.look(NOVEMBER)
    assert [f"{method} {path}" for method, path, _ in server.asked] == [
        TEMPLATE,
        INDICES,
        f"GET /{STEM}-20*.*/_stats/docs,store",
        POLICY,
    ]


async def test_a_missing_policy_is_put_as_the_server_takes_it(
    recorded: Series, server: RecordedElastic
) -> None:
    server.answers[POLICY] = (404, {"error": {"type": "resource_not_found_exception", "reason": ""}})
    server.answers[f"PUT /_ilm/policy/{STEM}"] = (200, {"acknowledged": True})
    expected: dict[str, Any] = deepcopy(POLICY_BODY)
    expected["phases"]["delete"]["actions"]["delete"] = {}
    assert await writes_of_one_round(recorded, server) == [
        ("PUT", f"/_ilm/policy/{STEM}", {"policy": expected})
    ]


async def test_a_detached_index_is_attached_with_the_end_of_its_month(
    recorded: Series, server: RecordedElastic
) -> None:
    settings = server.answers[INDICES][1][f"{STEM}-2026.10"]["settings"]
    del settings["index.lifecycle.name"], settings["index.lifecycle.origination_date"]
    server.answers[f"PUT /{STEM}-2026.10/_settings"] = (200, {"acknowledged": True})
    wanted = {"index.lifecycle.name": STEM, "index.lifecycle.origination_date": str(ENDS["2026.10"])}
    assert await writes_of_one_round(recorded, server) == [("PUT", f"/{STEM}-2026.10/_settings", wanted)]
