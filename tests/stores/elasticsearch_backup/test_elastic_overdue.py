"""A restored index follows its lifecycle policy again only where that does not delete it at once."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from lucid_storage.stores.elasticsearch.backup.http import Answer, ElasticHttp
from lucid_storage.stores.elasticsearch.backup.leftovers import Leftover, complete

NOW = datetime.now(UTC)
POLICY = "lucid-sessions"
DELETES: dict[str, Any] = {"hot": {"actions": {}}, "delete": {"min_age": "90d", "actions": {"delete": {}}}}


class Server:
    """Answers for the policy, and keeps what is put. The build of Elasticsearch in the tests has no ILM."""

    def __init__(self, phases: Mapping[str, Any] | None, status: int = 200) -> None:
        self.answer = Answer(status, json.dumps({POLICY: {"policy": {"phases": phases}}}).encode())
        self.settings: dict[str, Any] = {}

    def ask(self, method: str, path: str, *_: Any) -> Answer:
        if path == "/_aliases":
            return Answer(404, b"{}")  # the alias was removed by somebody who came before
        assert (method, path) == ("GET", f"/_ilm/policy/{POLICY}")
        return self.answer

    def must(self, method: str, path: str, body: Any, parameters: Any) -> Answer:
        if path.endswith("/_settings"):
            self.settings.update(body)
        return Answer(200, b"{}")


def completed(server: Server, age: timedelta | None, created: datetime | None = None) -> list[str]:
    last: dict[str, Any] = {"index.lifecycle.name": POLICY, "index.hidden": "false"}
    if age is not None:
        last["index.lifecycle.origination_date"] = str(int((NOW - age).timestamp() * 1000))
    left = Leftover("i-r-run", "uuid", "i", "run", 0, last, created, switched=True)
    return complete(cast("ElasticHttp", server), left)


@pytest.mark.parametrize(
    ("age", "created"),
    [(timedelta(days=91), NOW), (None, NOW - timedelta(days=91)), (None, None)],
)
def test_one_that_is_past_its_days_follows_no_policy(age: timedelta | None, created: datetime | None) -> None:
    server = Server(DELETES)
    (note,) = completed(server, age, created)
    assert "i is past the days of its lifecycle policy lucid-sessions" in note
    assert {key for key, value in server.settings.items() if value is not None} == {"index.hidden"}


@pytest.mark.parametrize(("status", "why"), [(403, " (the login lacks read_ilm)"), (500, "")])
def test_where_the_policy_cannot_be_read_the_index_does_not_follow_it(status: int, why: str) -> None:
    server = Server(None, status=status)
    (note,) = completed(server, timedelta(days=1))
    assert f"its policy lucid-sessions cannot be read{why}. Set index.lifecycle.name" in note
    assert "index.lifecycle.name" not in server.settings


def test_where_the_policy_is_nested_too_deep_to_be_read_the_index_does_not_follow_it() -> None:
    server = Server(None)
    meta = '{"a":' * 990 + "1" + "}" * 990
    server.answer = Answer(200, f'{{"{POLICY}":{{"policy":{{"_meta":{meta}}}}}}}'.encode())
    (note,) = completed(server, timedelta(days=1))
    assert "its policy lucid-sessions cannot be read. Set index.lifecycle.name" in note


def test_a_policy_whose_age_is_not_understood_may_delete() -> None:
    server = Server({"delete": {"min_age": "a while"}})
    assert completed(server, timedelta(days=1))
    assert "index.lifecycle.name" not in server.settings


@pytest.mark.parametrize(
    ("server", "age"),
    [
        (Server(DELETES), timedelta(days=89)),
        (Server({"hot": {"actions": {}}}), timedelta(days=900)),
        (Server(None, status=404), timedelta(days=900)),
    ],
)
def test_what_is_not_deleted_gets_its_lifecycle_back(server: Server, age: timedelta) -> None:
    assert completed(server, age) == []
    assert server.settings["index.lifecycle.name"] == POLICY
    assert "index.lifecycle.origination_date" in server.settings
