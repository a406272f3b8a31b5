"""Every promise is kept on the fake, which is fast, and on a real server, which is right."""

from collections.abc import AsyncIterator

import pytest

from kinds.index_elasticsearch.elastic_bed import Series, real_series
from stores.elasticsearch.fake_elastic import FakeElastic


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.elasticsearch)])
async def sessions(request: pytest.FixtureRequest) -> AsyncIterator[Series]:
    if request.param == "fake":
        yield Series(FakeElastic(), "lucid-sessions")
        return
    prefix: str = request.getfixturevalue("index_prefix")
    async with real_series(request.getfixturevalue("elasticsearch_server"), f"{prefix}sessions") as series:
        yield series


@pytest.fixture
def with_ilm() -> Series:
    """A series on a server with index lifecycle management, which only the fake has here."""
    return Series(FakeElastic(has_ilm=True), "lucid-sessions")
