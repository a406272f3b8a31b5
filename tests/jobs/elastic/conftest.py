"""Fixtures of the tests of Elasticsearch's backups."""

from collections.abc import Iterator

import pytest

from jobs.elastic.elastic_bed import Bed, snapshots
from testbed.stores.elasticsearch import Elasticsearch


@pytest.fixture
def bed(elasticsearch_server: Elasticsearch, index_prefix: str) -> Bed:
    return Bed(elasticsearch_server, index_prefix)


@pytest.fixture
def repository(bed: Bed) -> Iterator[str]:
    """A snapshot repository of the server, whose files lie in its folder `snapshots` under the same name."""
    name = bed.name("repository")
    location = str(bed.server.snapshots / name)
    bed.call("PUT", f"/_snapshot/{name}", {"type": "fs", "settings": {"location": location}})
    yield name
    for one in snapshots(bed, name):
        bed.call("DELETE", f"/_snapshot/{name}/{one}")
    bed.call("DELETE", f"/_snapshot/{name}")
