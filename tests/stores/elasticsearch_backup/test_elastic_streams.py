"""Data streams are taken by no method: said where a pattern means one, refused where somebody names one."""

import json
from typing import Any, cast

import pytest

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.elasticsearch.backup.http import Answer, ElasticHttp
from lucid_storage.stores.elasticsearch.backup.names import Allowed
from lucid_storage.stores.elasticsearch.backup.selection import choose

LISTED = {
    "indices": [
        {"name": ".ds-logs-000001", "attributes": ["hidden", "open"], "data_stream": "logs"},
    ],
    "aliases": [{"name": "all-logs", "indices": ["logs"]}],
    "data_streams": [
        {"name": "logs", "backing_indices": [".ds-logs-000001"], "timestamp_field": "@timestamp"}
    ],
}


class Server:
    """Answers as a server with a data stream and an alias of it. The build of Elasticsearch in the tests has none."""

    def must(self, method: str, path: str, **_: Any) -> Answer:
        assert method == "GET"
        answers: dict[str, Any] = {"/_resolve/index/*": LISTED, "/*/_alias": {}}
        return Answer(200, json.dumps(answers[path]).encode())

    ask = must


def test_a_data_stream_is_a_note_by_pattern_and_an_error_by_name_or_alias() -> None:
    http = cast("ElasticHttp", Server())
    (note,) = choose(http, ["lo*"], Allowed(["*"])).notes
    assert note == "logs is a data stream, which no method takes; it is not in this backup."
    for name in ("logs", "all-logs"):
        with pytest.raises(LucidError, match="data stream, which no method takes; take it out of") as failed:
            choose(http, [name], Allowed(["*"]))
        assert failed.value.reason is Reason.INVALID_SPEC
