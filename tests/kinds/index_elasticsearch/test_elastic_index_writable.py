"""A series whose index of this month takes no documents is not Ready, and a mapping may need a limit before it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kinds.index_elasticsearch.elastic_bed import Series, real_series
from testbed.stores.elasticsearch import Elasticsearch

pytestmark = pytest.mark.elasticsearch

SETTINGS: dict[str, Any] = {"number_of_replicas": 0}
LIMIT = "index.mapping.total_fields.limit"


@pytest.fixture
async def series(elasticsearch_server: Elasticsearch, index_prefix: str) -> AsyncIterator[Series]:
    async with real_series(elasticsearch_server, f"{index_prefix}sessions") as made:
        yield made


def fields(count: int) -> dict[str, Any]:
    return {"properties": {f"f{n}": {"type": "long"} for n in range(count)}}


async def test_a_series_whose_index_of_this_month_takes_no_documents_is_not_ready(
    series: Series, elasticsearch_server: Elasticsearch
) -> None:
    await series.declare(settings=SETTINGS)
    current = f"/{series.month('2026.11')}"
    elasticsearch_server.request("POST", f"{current}/_close")
    assert (await series.run()).again_seconds == 15
    assert series.condition("Ready")["reason"] == "Unhealthy"
    assert f"POST {current}/_open" in series.condition("Ready")["message"]
    elasticsearch_server.request("POST", f"{current}/_open")
    for block, said in (
        ("read_only_allow_delete", "disk is nearly full"),
        ("read_only", "take it away"),
        ("write", "take it away"),
    ):
        elasticsearch_server.request("PUT", f"{current}/_settings", {f"index.blocks.{block}": True})
        await series.look()
        assert series.condition("Ready")["reason"] == "Unhealthy", block
        assert f"index.blocks.{block}" in series.condition("Ready")["message"]
        assert said in series.condition("Ready")["message"]
        elasticsearch_server.request("PUT", f"{current}/_settings", {f"index.blocks.{block}": None})
        await series.look()
        assert series.is_ready(), block


async def test_a_block_that_is_declared_and_one_of_an_older_month_are_no_trouble(
    series: Series, elasticsearch_server: Elasticsearch
) -> None:
    await series.occupy("2026.09")
    await series.declare(settings={**SETTINGS, "blocks.write": True})
    await series.look()
    assert series.is_ready(), series.shown()
    await series.declare(settings=SETTINGS)
    older = f"/{series.month('2026.09')}/_settings"
    elasticsearch_server.request("PUT", older, {"index.blocks.write": True})
    await series.look()
    assert series.is_ready(), series.shown()


async def test_a_larger_mapping_is_declared_together_with_the_limit_that_it_needs(series: Series) -> None:
    await series.declare(settings={**SETTINGS, LIMIT: 20}, mappings=fields(20))
    assert series.is_ready(), series.shown()
    await series.declare(settings={**SETTINGS, LIMIT: 20}, mappings=fields(30))
    assert "settings.mapping.total_fields.limit" in series.condition("Ready")["message"]
    await series.declare(settings={**SETTINGS, LIMIT: 30}, mappings=fields(30))
    assert series.is_ready(), series.shown()
    found = await series.indices()
    assert {str(index.settings[LIMIT]) for index in found.values()} == {"30"}
    assert {len(index.mappings["properties"]) for index in found.values()} == {30}  # type: ignore[arg-type]


async def test_a_lower_limit_is_not_set_before_a_mapping_that_the_server_refuses(series: Series) -> None:
    await series.declare(settings={**SETTINGS, LIMIT: 30}, mappings=fields(30))
    await series.declare(settings={**SETTINGS, LIMIT: 20}, mappings=fields(31))
    assert series.condition("Ready")["reason"] == "ServerRefused"
    assert {str(index.settings[LIMIT]) for index in (await series.indices()).values()} == {"30"}
