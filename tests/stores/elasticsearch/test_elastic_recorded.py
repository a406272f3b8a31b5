"""Servers that the test bed cannot run, replayed: lifecycle policies, refusals by rights, overload, other products.

The answers are in the form that the reference of Elasticsearch 8 documents for each API (the build of the test
bed has no ILM); what is checked is which requests the adapter makes of them and what it reads out of them.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lucid_storage.errors import (
    AccessDeniedError,
    LoginFailedError,
    LucidError,
    NotSupportedError,
    ServerRefusedError,
    StoreUnavailableError,
)
from lucid_storage.stores.elasticsearch.adapter import ElasticCluster
from lucid_storage.stores.elasticsearch.compare import policy_differences
from lucid_storage.stores.elasticsearch.types import LifecyclePolicyState, TemplateState
from stores.elasticsearch.recorded_elastic import RecordedElastic, replaying
from stores.elasticsearch.self_signed import certificate

POLICY = {
    "phases": {
        "warm": {"min_age": "7d", "actions": {"forcemerge": {"max_num_segments": 1}}},
        "cold": {"min_age": "30d", "actions": {}},
        "delete": {"min_age": "90d", "actions": {"delete": {}}},
    }
}
KEPT_POLICY = {
    "version": 2,
    "modified_date": "2026-11-01T10:00:00.000Z",
    "policy": {
        "phases": {
            "warm": {"min_age": "7d", "actions": {"forcemerge": {"max_num_segments": 1}}},
            "cold": {"min_age": "30d", "actions": {}},
            "delete": {"min_age": "90d", "actions": {"delete": {"delete_searchable_snapshot": True}}},
        }
    },
    "in_use_by": {"indices": ["lucid-sessions-2026.11"], "data_streams": [], "composable_templates": []},
}
KNOWN = {
    "GET /_cluster/state/version": (200, {"cluster_uuid": "kept-uuid"}),
    "GET /_nodes/_all/_none": (
        200,
        {"nodes": {"a": {"version": "8.19.2"}, "b": {"version": "8.17.0-SNAPSHOT"}}},
    ),
    "GET /_cluster/health": (200, {"number_of_data_nodes": 3}),
    "GET /_ilm/status": (200, {"operation_mode": "RUNNING"}),
}


def refusal(kind: str, reason: str, status: int) -> tuple[int, Any]:
    cause = {"type": kind, "reason": reason}
    return status, {"error": {"root_cause": [cause], **cause}, "status": status}


@asynccontextmanager
async def cluster(
    answers: dict[str, Any],
    *,
    product: str | None = "Elasticsearch",
    api_key: str | None = None,
    login: str = "",
) -> AsyncIterator[tuple[ElasticCluster, RecordedElastic]]:
    async with replaying(RecordedElastic(answers, product)) as server:
        url = server.url.replace("http://", f"http://{login}")
        elastic = ElasticCluster(url, label="test", guard=lambda: None, api_key=api_key)
        yield elastic, server
        await elastic.close()


async def test_info_asks_for_ilm_takes_the_oldest_version_and_is_kept() -> None:
    async with cluster(KNOWN) as (elastic, server):
        info = await elastic.info()
        assert (info.identity, info.version, info.has_ilm, info.data_nodes) == (
            "kept-uuid",
            (8, 17, 0),
            True,
            3,
        )
        asked = len(server.asked)
        assert await elastic.info() == info
        assert len(server.asked) == asked
        assert ("GET", "/", None) not in server.asked


@pytest.mark.parametrize(
    ("answer", "has_ilm"),
    [
        (
            refusal(
                "security_exception", "action [cluster:admin/ilm/operation_mode/get] is unauthorized", 403
            ),
            True,
        ),
        (
            (405, {"error": "Incorrect HTTP method for uri [/_ilm/status] and method [GET]", "status": 405}),
            False,
        ),
        ((400, {"error": "no handler found for uri [/_ilm/status] and method [GET]"}), False),
        ((410, {"error": "not available"}), False),
    ],
)
async def test_whether_ilm_is_there_follows_from_the_answer(answer: Any, has_ilm: bool) -> None:
    async with cluster({**KNOWN, "GET /_ilm/status": answer}) as (elastic, _):
        assert (await elastic.info()).has_ilm is has_ilm


async def test_a_failing_server_is_not_mistaken_for_one_without_ilm() -> None:
    async with cluster({**KNOWN, "GET /_ilm/status": (503, {"error": "busy"})}) as (elastic, _):
        with pytest.raises(StoreUnavailableError):
            await elastic.info()


async def test_a_policy_is_read_without_what_lies_around_it() -> None:
    async with cluster({"GET /_ilm/policy/lucid": (200, {"lucid": KEPT_POLICY})}) as (elastic, _):
        found = await elastic.policy("lucid")
    assert found == LifecyclePolicyState("lucid", KEPT_POLICY["policy"])
    assert policy_differences(POLICY, found.policy) == []


async def test_an_absent_policy_is_none_and_its_deletion_false() -> None:
    missing = refusal("resource_not_found_exception", "Lifecycle policy not found: lucid", 404)
    answers = {"GET /_ilm/policy/lucid": missing, "DELETE /_ilm/policy/lucid": missing}
    async with cluster(answers) as (elastic, _):
        assert await elastic.policy("lucid") is None
        assert await elastic.delete_policy("lucid") is False


async def test_a_policy_is_put_and_deleted_as_the_api_wants_it() -> None:
    done = (200, {"acknowledged": True})
    async with cluster({"PUT /_ilm/policy/lucid": done, "DELETE /_ilm/policy/lucid": done}) as (
        elastic,
        server,
    ):
        await elastic.put_policy(LifecyclePolicyState("lucid", POLICY))
        assert await elastic.delete_policy("lucid") is True
        assert server.asked == [
            ("PUT", "/_ilm/policy/lucid", {"policy": POLICY}),
            ("DELETE", "/_ilm/policy/lucid", None),
        ]


async def test_a_policy_in_use_is_not_deleted_and_the_servers_words_are_given() -> None:
    reason = "Cannot delete policy [lucid]. It is in use by one or more indices: [lucid-sessions-2026.11]"
    answers = {"DELETE /_ilm/policy/lucid": refusal("illegal_argument_exception", reason, 400)}
    async with cluster(answers) as (elastic, _):
        with pytest.raises(ServerRefusedError, match="in use by one or more indices"):
            await elastic.delete_policy("lucid")


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (
            refusal(
                "security_exception",
                "action [indices:admin/index_template/put] is unauthorized for user [bob] with effective roles [r], "
                "this action is granted by the cluster privileges [manage_index_templates,manage,all]",
                403,
            ),
            AccessDeniedError,
            "grant the cluster privilege manage_index_templates",
        ),
        (
            refusal("security_exception", "unable to authenticate user [bob]", 401),
            LoginFailedError,
            "refused the login",
        ),
        (
            refusal(
                "cluster_block_exception",
                "index [a] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, "
                "index has read-only-allow-delete block];",
                429,
            ),
            StoreUnavailableError,
            "free disk space",
        ),
        (
            refusal("cluster_block_exception", "blocked by: [SERVICE_UNAVAILABLE/2/no master];", 503),
            StoreUnavailableError,
            "no elected master",
        ),
        (
            refusal(
                "cluster_block_exception",
                "blocked by: [FORBIDDEN/10/cluster create-index blocked (api)];",
                403,
            ),
            StoreUnavailableError,
            "blocks new indices",
        ),
        (
            refusal("process_cluster_event_timeout_exception", "failed to process within 10s", 503),
            StoreUnavailableError,
            "overloaded or not ready",
        ),
        (refusal("es_rejected_execution_exception", "rejected", 429), StoreUnavailableError, "overloaded"),
        (refusal("null_pointer_exception", "null", 500), StoreUnavailableError, "failed by itself"),
        (
            refusal("media_type_header_exception", "Invalid media-type value on headers [Accept]", 400),
            NotSupportedError,
            "use Elasticsearch 8",
        ),
        ((200, {"acknowledged": False}), StoreUnavailableError, "did not confirm the change in time"),
        ((413, "too large"), ServerRefusedError, "HTTP 413"),
    ],
)
async def test_an_error_becomes_one_sentence_of_the_right_kind(
    answer: Any, error: type[LucidError], words: str
) -> None:
    async with cluster({"PUT /_index_template/t": answer}) as (elastic, _):
        with pytest.raises(LucidError, match=words) as raised:
            await elastic.put_template(TemplateState("t", ("t-*",), 1, {}, {}, {}))
    assert type(raised.value) is error
    assert raised.value.message.endswith(".")


async def test_the_servers_words_are_bounded_and_hold_no_value_of_a_document() -> None:
    reason = (
        f"failed to parse field [a] of type [long]. Preview of field's value: 'a secret value' {'x' * 900}"
    )
    long = refusal("illegal_argument_exception", "y" * 900, 400)
    answers = {
        "PUT /_index_template/t": refusal("mapper_parsing_exception", reason, 400),
        "PUT /_index_template/u": long,
    }
    async with cluster(answers) as (elastic, _):
        with pytest.raises(ServerRefusedError) as refused:
            await elastic.put_template(TemplateState("t", ("t-*",), 1, {}, {}, {}))
        assert "secret" not in refused.value.message
        assert "failed to parse field [a] of type [long]." in refused.value.message
        with pytest.raises(ServerRefusedError) as refused:
            await elastic.put_template(TemplateState("u", ("t-*",), 1, {}, {}, {}))
        assert len(refused.value.message) < 450


async def test_another_product_at_the_address_is_not_supported() -> None:
    async with cluster(KNOWN, product=None) as (elastic, _):
        with pytest.raises(NotSupportedError, match="is not Elasticsearch"):
            await elastic.info()


async def test_login_of_the_url_and_api_key_are_sent_and_never_shown() -> None:
    async with cluster(KNOWN, login="bob:p%40ss@") as (elastic, server):
        await elastic.info()
        assert server.authorizations == {"Basic Ym9iOnBAc3M="}
    async with cluster({}, login="bob:p%40ss@", api_key="a2V5OnNlY3JldA==") as (elastic, server):
        with pytest.raises(LucidError) as raised:
            await elastic.info()
        assert server.authorizations == {"ApiKey a2V5OnNlY3JldA=="}
        assert "p@ss" not in raised.value.message and "bob" not in raised.value.message


async def test_templates_that_the_server_brings_along_are_left_out() -> None:
    def entry(name: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "index_template": {"index_patterns": [f"{name}-*"], "composed_of": [], **more}}

    listed = [entry("mine"), entry(".hidden"), entry("logs", _meta={"managed": True})]
    async with cluster({"GET /_index_template": (200, {"index_templates": listed})}) as (elastic, _):
        assert [template.name for template in await elastic.templates()] == ["mine"]


async def test_over_tls_only_the_given_ca_and_the_right_host_are_trusted(tmp_path: Path) -> None:
    async def ask(server: RecordedElastic, ca_path: str | None) -> str:
        elastic = ElasticCluster(server.url, label="test", guard=lambda: None, ca_path=ca_path)
        try:
            return (await elastic.info()).identity
        finally:
            await elastic.close()

    for host, trusted in (("127.0.0.1", True), ("192.0.2.1", False)):
        cert, key = certificate(tmp_path, host)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        async with replaying(RecordedElastic(KNOWN), context) as server:
            with pytest.raises(StoreUnavailableError, match="certificate that does not fit this host or CA"):
                await ask(server, None)
            if trusted:
                assert await ask(server, str(cert)) == "kept-uuid"
            else:
                with pytest.raises(
                    StoreUnavailableError, match="certificate that does not fit this host or CA"
                ):
                    await ask(server, str(cert))
