"""Fixtures of the tests of Elasticsearch's backups."""

import pytest

from jobs.elastic.elastic_bed import Bed
from testbed.stores.elasticsearch import Elasticsearch


@pytest.fixture
def bed(elasticsearch_server: Elasticsearch, index_prefix: str) -> Bed:
    return Bed(elasticsearch_server, index_prefix)
