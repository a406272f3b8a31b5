"""Looking at many indices: what nobody may read is passed over, and a server that is away is not taken for that."""

import json
from typing import Any, cast

import pytest

from lucid_storage.errors import StoreUnavailableError
from lucid_storage.stores.elasticsearch.backup.http import Answer, ElasticHttp
from lucid_storage.stores.elasticsearch.backup.listing import each_of

BLOCKED = "blocked by: [FORBIDDEN/9/index metadata (api)];"
NO_MASTER = "blocked by: [SERVICE_UNAVAILABLE/2/no master];"


class Server:
    """Two indices, of which the second answers so."""

    subject = "Elasticsearch"
    refused = ElasticHttp.refused

    def __init__(self, status: int, sentence: str) -> None:
        self.status, self.sentence = status, sentence

    def ask(self, _method: str, path: str, **_: Any) -> Answer:
        if path == "/first/_alias":
            return Answer(200, b'{"first":{"aliases":{"a":{}}}}')
        body = {"error": {"type": "cluster_block_exception", "reason": self.sentence}}
        return Answer(self.status, json.dumps(body).encode())

    def must(self, _method: str, path: str, **_: Any) -> Answer:
        assert path == "/_resolve/index/*"
        return Answer(200, json.dumps({"indices": [{"name": "first"}, {"name": "second"}]}).encode())


def look(status: int, sentence: str) -> dict[str, str]:
    return each_of(cast("ElasticHttp", Server(status, sentence)), "*", "/_alias", {})


def test_an_index_with_blocked_metadata_is_passed_over() -> None:
    assert look(403, BLOCKED) == {"first": '{"aliases":{"a":{}}}'}


def test_a_server_without_a_master_is_unavailable_and_not_short_of_an_index() -> None:
    with pytest.raises(StoreUnavailableError, match="no elected master"):
        look(503, NO_MASTER)
