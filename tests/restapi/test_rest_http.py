"""HTTP behaviour of the REST API: contract, envelope, parameters, limits."""

import asyncio
import hashlib
import uuid
from dataclasses import replace

import aiohttp
import pytest
from jsonschema.exceptions import ValidationError
from rest_clients import serving
from rest_contract import check, operations, schema
from rest_doubles import FixedBackend, HandClock, KnownCallers

from lucid_storage.errors import LoginFailedError, LucidError, NotSupportedError, StoreUnavailableError
from lucid_storage.kube.authz import ApiKeyEntry
from lucid_storage.restapi.limits import Limits, OperationGroup, Rate
from lucid_storage.restapi.operations import OPERATIONS
from lucid_storage.restapi.schemas import HealthStatus

SERVED = {
    ("GET", "/database/health"),
    ("GET", "/database/stats"),
    ("GET", "/database/collections"),
    ("GET", "/database/collections/{collection_name}"),
    ("GET", "/database/collections/{collection_name}/indexes"),
}


def test_operation_table_is_that_of_the_contracts() -> None:
    assert set(OPERATIONS) == operations()
    assert len(OPERATIONS) == len(set(OPERATIONS))


def test_contract_contradicts_itself_only_where_we_say() -> None:
    index = {"name": "a", "collection": "c", "key": {"a": "text"}}
    check(index, "IndexResponse")
    with pytest.raises(ValidationError):
        check(index, "IndexResponse", corrected=False)
    for order in ("wrong", 2):
        with pytest.raises(ValidationError):
            check({**index, "key": {"a": order}}, "IndexResponse")
    assert False in schema("BalancerStatusResponse", corrected=False)["properties"]["mode"]["enum"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/database/health", "DatabaseHealthResponse"),
        ("/database/stats", "DatabaseStatsResponse"),
        ("/database/collections", "CollectionListResponse"),
        ("/database/collections/blocks", "CollectionResponse"),
        ("/database/collections/blocks/indexes", "IndexListResponse"),
    ],
)
async def test_answers_are_those_of_the_contract(path: str, name: str) -> None:
    with serving(FixedBackend()) as rest:
        reply = await rest.call(path)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    check(reply.body, name)
    assert None not in _values(reply.body)


def _values(body: object) -> list[object]:
    if isinstance(body, dict):
        return [inner for value in body.values() for inner in _values(value)]
    if isinstance(body, list):
        return [inner for value in body for inner in _values(value)]
    return [body]


async def test_index_keys_keep_their_order() -> None:
    with serving(FixedBackend()) as rest:
        reply = await rest.call("/database/collections/blocks/indexes")
    assert list(reply.body["indexes"][1]["key"].items()) == [("z", -1), ("a", "text")]


async def test_operations_that_are_not_there_yet_say_so() -> None:
    limits = Limits(rates=dict.fromkeys(OperationGroup, Rate(6000, 6000)))
    with serving(FixedBackend(), limits=limits) as rest:
        for method, path in sorted(set(OPERATIONS) - SERVED):
            concrete = path.replace("{", "").replace("}", "")
            reply = await rest.call(concrete, method=method)
            assert (reply.status, reply.code) == (501, "LUCID_ERR_501"), (method, path)
            assert method in reply.message
            assert (await rest.call(concrete, None, method=method)).status == 401


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/nothing", "GET", 404),
        ("/database/health", "DELETE", 405),
        ("/database/collections/blocks", "PUT", 405),
        ("/database/collections?page=0", "GET", 422),
        ("/database/collections?limit=101", "GET", 422),
        ("/database/collections?limit=many", "GET", 422),
        ("/database/collections?namespace=Not%20a%20label", "GET", 422),
        (f"/database/collections/{'x' * 101}", "GET", 422),
        ("/database/collections/absent", "GET", 404),
        ("/database/collections/absent/indexes", "GET", 404),
        ("/database/collections?database=other", "GET", 403),
        ("/database/collections?database=admin", "GET", 403),
        ("/database/collections?namespace=elsewhere", "GET", 403),
    ],
)
async def test_errors_come_in_the_envelope(path: str, method: str, status: int) -> None:
    with serving(FixedBackend()) as rest:
        reply = await rest.call(path, method=method)
    assert reply.status == status
    assert reply.message.endswith(".")
    if status == 405:
        assert "GET" in reply.headers["allow"]


async def test_absent_collection_has_its_registered_code() -> None:
    with serving(FixedBackend()) as rest:
        reply = await rest.call("/database/collections/absent")
    assert reply.code == "LUCID_ERR_5002"
    assert "lucid_blockchain" in reply.message


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (StoreUnavailableError("MongoDB cannot be reached."), 503, "LUCID_ERR_5001"),
        (LoginFailedError("MongoDB refused the login."), 503, "LUCID_ERR_5001"),
        (NotSupportedError("This Redis is a cluster."), 501, "LUCID_ERR_501"),
        (TimeoutError(), 504, "LUCID_ERR_5007"),
        (LucidError("secret detail"), 500, "LUCID_ERR_500"),
        (RuntimeError("secret detail"), 500, "LUCID_ERR_500"),
    ],
)
async def test_failures_of_the_backend_become_one_sentence(
    failure: Exception, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(FixedBackend(failure=failure)) as rest:
        reply = await rest.call("/database/collections")
    assert (reply.status, reply.code) == (status, code)
    assert "secret detail" not in str(reply.body)
    if status == 500:
        assert "secret detail" in caplog.text


async def test_unhealthy_data_layer_is_503_with_its_parts() -> None:
    with serving(FixedBackend(status=HealthStatus.UNHEALTHY)) as rest:
        reply = await rest.call("/database/health")
    assert (reply.status, reply.code) == (503, "LUCID_ERR_5001")
    check(reply.body["error"]["details"], "DatabaseHealthResponse")


async def test_pages_cover_the_list_once() -> None:
    with serving(FixedBackend(total=23)) as rest:
        pages = [await rest.call(f"/database/collections?page={page}&limit=10") for page in (1, 2, 3, 4)]
    names = [found["name"] for page in pages for found in page.body["collections"]]
    assert names == [f"coll{number:03}" for number in range(23)]
    assert pages[2].body["pagination"] == {"page": 3, "limit": 10, "total": 23, "pages": 3}
    assert pages[3].body["collections"] == []


async def test_request_id_of_the_caller_is_kept_where_it_is_a_uuid() -> None:
    mine = str(uuid.uuid4())
    with serving(FixedBackend()) as rest:
        kept = await rest.call("/database/stats", headers={"X-Request-ID": mine})
        replaced = await rest.call("/database/stats", headers={"X-Request-ID": "1234\tx"})
    assert kept.headers["x-request-id"] == mine
    assert uuid.UUID(replaced.headers["x-request-id"])


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic YWxpY2U6eA==", "Bearer mallory", f"Bearer {'x' * 13_000}"]
)
async def test_unknown_callers_are_refused_with_a_challenge(header: str) -> None:
    with serving(FixedBackend()) as rest:
        reply = await rest.call("/database/stats?page=wrong", None, headers={"Authorization": header})
        without = await rest.call("/database/stats", None)
    assert (reply.status, without.status) == (401, 401)
    assert reply.headers["www-authenticate"].startswith("Bearer")


async def test_callers_without_permission_are_told_which_one_they_lack() -> None:
    callers = KnownCallers(denied={("bob", "list", "indexes"), ("bob", "get", "databases")})
    with serving(FixedBackend(), callers) as rest:
        denied = await rest.call("/database/collections/blocks/indexes", "bob")
        health = await rest.call("/database/health", "bob")
        allowed = await rest.call("/database/collections/blocks", "bob")
    assert (denied.status, health.status, allowed.status) == (403, 403, 200)
    assert "list indexes.storage.lucid-blockchain.org" in denied.message


async def test_api_key_stands_for_its_service_account() -> None:
    entry = ApiKeyEntry(hashlib.sha256(b"a-long-random-key").hexdigest(), "apps", "reporter")
    callers = KnownCallers(
        keys=(entry,), denied={("system:serviceaccount:apps:reporter", "get", "databases")}
    )
    with serving(FixedBackend(), callers) as rest:
        known = await rest.call("/database/collections", None, headers={"X-API-Key": "a-long-random-key"})
        denied = await rest.call("/database/health", None, headers={"X-API-Key": "a-long-random-key"})
        unknown = await rest.call("/database/collections", None, headers={"X-API-Key": "a-long-random-kez"})
        # A token that is not accepted is not made good by a key.
        both = await rest.call("/database/collections", "mallory", headers={"X-API-Key": "a-long-random-key"})
    assert (known.status, denied.status, unknown.status, both.status) == (200, 403, 401, 401)


async def test_answers_about_callers_are_cached_and_expire() -> None:
    callers, clock = KnownCallers(), HandClock()
    with serving(FixedBackend(), callers, clock=clock) as rest:
        for _ in range(3):
            assert (await rest.call("/database/stats")).status == 200
            assert (await rest.call("/database/stats", "mallory")).status == 401
        assert (callers.asked["identify"], callers.asked["allows"]) == (2, 1)
        callers.tokens["mallory"] = callers.tokens["alice"]
        clock.seconds += 5.1
        assert (await rest.call("/database/stats", "mallory")).status == 200
        del callers.tokens["alice"]
        assert (await rest.call("/database/stats")).status == 200
        clock.seconds += 55
        assert (await rest.call("/database/stats")).status == 401
    assert callers.asked["close"] == 1


async def test_a_caller_gets_the_same_figures_for_a_second_and_nobody_gets_another_callers() -> None:
    callers, clock, backend = KnownCallers(denied={("bob", "get", "databases")}), HandClock(), FixedBackend()
    with serving(backend, callers, clock=clock) as rest:
        for path in ("/database/stats", "/database/health"):
            first, again = await rest.call(path), await rest.call(path)
            assert (first.status, again.body) == (200, first.body)
            assert first.headers["x-request-id"] != again.headers["x-request-id"]
            assert (await rest.call(path, "bob")).status == 403
            assert (await rest.call(path + "?namespace=elsewhere")).status == 403
        assert backend.answered == 2
        backend.failure = StoreUnavailableError("MongoDB cannot be reached.")
        assert (await rest.call("/database/stats")).status == 200
        clock.seconds += 1.1
        assert (await rest.call("/database/stats")).status == 503
        backend.failure = None
        # A failure is not kept.
        assert (await rest.call("/database/stats")).status == 200


async def test_lost_api_server_is_503_and_known_callers_go_on() -> None:
    callers = KnownCallers()
    with serving(FixedBackend(), callers) as rest:
        assert (await rest.call("/database/stats")).status == 200
        callers.down = True
        assert (await rest.call("/database/stats")).status == 200
        unknown = await rest.call("/database/stats", "bob")
    assert (unknown.status, unknown.code) == (503, "LUCID_ERR_503")
    assert unknown.headers["retry-after"] == "5"


async def test_rate_limit_is_for_each_user_and_group() -> None:
    clock = HandClock()
    rates = {**Limits().rates, OperationGroup.DATABASE: Rate(per_minute=60, burst=2)}
    with serving(FixedBackend(), clock=clock, limits=replace(Limits(), rates=rates)) as rest:
        statuses = [(await rest.call("/database/stats")).status for _ in range(3)]
        refused = await rest.call("/database/stats")
        other_user = await rest.call("/database/stats", "bob")
        other_group = await rest.call("/backups")
        clock.seconds += 1.01
        later = await rest.call("/database/stats")
    assert statuses == [200, 200, 429]
    assert (refused.code, refused.headers["retry-after"]) == ("LUCID_ERR_429", "1")
    assert (other_user.status, other_group.status, later.status) == (200, 501, 200)


async def test_specified_rates_hold() -> None:
    with serving(FixedBackend(), clock=HandClock()) as rest:
        async with aiohttp.ClientSession(headers={"Authorization": "Bearer alice"}) as session:

            async def allowed(path: str, tries: int) -> int:
                statuses = []
                for _ in range(tries):
                    async with session.get(rest.base + path) as answer:
                        statuses.append(answer.status)
                return sum(status != 429 for status in statuses)

            assert await allowed("/database/sharding/status", 15) == 10
            assert await allowed("/backups", 25) == 20
            assert await allowed("/database/stats", 1010) == 1000


async def test_guessing_tokens_stops_costing_reviews() -> None:
    callers = KnownCallers()
    limits = replace(Limits(), failed_logins=Rate(per_minute=60, burst=5))
    with serving(FixedBackend(), callers, clock=HandClock(), limits=limits) as rest:
        assert (await rest.call("/database/stats", "alice")).status == 200
        statuses = [(await rest.call("/database/stats", f"guess{n}")).status for n in range(20)]
        known = await rest.call("/database/stats", "alice")
    assert statuses == [401] * 5 + [429] * 15
    assert callers.asked["identify"] == 6
    assert known.status == 200


async def test_one_user_cannot_take_all_places() -> None:
    limits = replace(Limits(), requests_at_once=6, requests_at_once_per_user=2)
    with serving(FixedBackend(seconds=1.5), limits=limits) as rest:
        # Both are known before, so that only the places count.
        assert {(await rest.call("/backups", user)).status for user in ("alice", "bob")} == {501}
        mine = [asyncio.ensure_future(rest.call("/database/stats")) for _ in range(4)]
        others = await rest.call("/database/stats", "bob")
        statuses = sorted([(await reply).status for reply in mine])
        after = await rest.call("/database/stats")
    assert statuses == [200, 200, 429, 429]
    assert (others.status, after.status) == (200, 200)


async def test_too_many_requests_at_once_are_refused_at_once() -> None:
    limits = replace(Limits(), requests_at_once=3)
    with serving(FixedBackend(seconds=1.5), limits=limits) as rest:
        replies = await asyncio.gather(*(rest.call("/database/stats") for _ in range(6)))
    assert sorted(reply.status for reply in replies) == [200, 200, 200, 503, 503, 503]
    assert all(reply.headers["retry-after"] == "1" for reply in replies if reply.status == 503)


async def test_slow_answer_is_504_at_the_deadline() -> None:
    with serving(FixedBackend(seconds=30), limits=replace(Limits(), request_seconds=0.3)) as rest:
        reply = await asyncio.wait_for(rest.call("/database/collections"), 5)
    assert (reply.status, reply.code) == (504, "LUCID_ERR_5007")


async def test_large_bodies_are_refused_and_unread_ones_end_the_connection() -> None:
    with serving(FixedBackend()) as rest:
        declared = await rest.call("/backups", method="POST", data=b"x" * 70_000)
        small = await rest.call("/backups", method="POST", data=b"{}")
    assert declared.status == 413
    assert (small.status, small.headers["connection"]) == (501, "close")


async def test_each_request_is_observed_by_route_and_not_by_path() -> None:
    seen: list[tuple[str, str, int, float]] = []
    with serving(FixedBackend(), observe=lambda *values: seen.append(values)) as rest:
        await rest.call("/database/collections/blocks")
        await rest.call("/nothing")
        await rest.call("/nothing", method="INVENTED")
    assert [values[:3] for values in seen] == [
        ("GET", "/database/collections/{collection_name}", 200),
        ("GET", "unknown", 404),
        ("other", "unknown", 404),
    ]


async def test_backend_and_auth_are_closed_with_the_server() -> None:
    backend, callers = FixedBackend(), KnownCallers()
    with serving(backend, callers) as rest:
        assert rest.server.healthy()
        await rest.call("/database/stats")
    assert backend.closed
    assert callers.asked["close"] == 1
    assert not rest.server.healthy()
    assert rest.server.stop(1)
