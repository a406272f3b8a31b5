"""Driver errors become sentences without secrets or values of documents."""

import asyncio

import bson.errors
import pymongo.errors
import pytest

from lucid_storage.errors import (
    AccessDeniedError,
    DuplicateKeysError,
    IndexConflictError,
    LoginFailedError,
    LucidError,
    NotSupportedError,
    Reason,
    ServerRefusedError,
    StoreUnavailableError,
)
from lucid_storage.stores.mongodb.connection import Connection
from lucid_storage.stores.mongodb.errors import Attempt, translate, why_unreachable
from lucid_storage.stores.mongodb.types import ServerInfo, Topology

ATTEMPT = Attempt("team A's MongoDB", "create the index shop.users/email_1")
BUILD = "Index build failed: 26c1: Collection shop.users ( 6abf ) :: caused by :: "


def answer(code: int, text: str) -> LucidError:
    failure = pymongo.errors.OperationFailure(text, code, {"ok": 0, "code": code, "errmsg": text})
    return translate(failure, ATTEMPT)


@pytest.mark.parametrize(
    ("code", "text", "said"),
    [
        (
            13297,
            "db already exists with different case already have: [Shop] trying to create [shop]",
            "upper and lower",
        ),
        (291, "error processing query: No indexed plans available", "notablescan"),
        (67, "add index fails, too many indexes for shop.users key:{ zz: 1 }", "64 indexes"),
    ],
)
def test_what_the_server_says_without_a_way_out_is_said_with_one(code: int, text: str, said: str) -> None:
    message = answer(code, text).message
    assert said in message
    assert "Shop" not in message
    assert "error code" not in message


@pytest.mark.parametrize(
    ("code", "text", "kind", "stalled"),
    [
        (18, "Authentication failed.", LoginFailedError, False),
        (8000, "bad auth", LoginFailedError, False),
        (85, "Index already exists with a different name: x", IndexConflictError, True),
        (86, "An existing index has the same name", IndexConflictError, True),
        (67, 'only one text index per collection allowed, found "t"', IndexConflictError, True),
        (67, "Values in the index key pattern cannot be 0.", ServerRefusedError, True),
        (26, "ns not found", ServerRefusedError, False),
        (27, "index not found", ServerRefusedError, False),
        (361, "Collection UUID does not match", ServerRefusedError, False),
        (72, "InvalidOptions", ServerRefusedError, True),
        (197, "The field 'foo' is not valid", ServerRefusedError, True),
        (9, "Unknown $jsonSchema keyword: foo", ServerRefusedError, True),
        (121, "Document failed validation", ServerRefusedError, True),
        (20, "Transaction numbers are only allowed on a replica set", NotSupportedError, True),
        (40573, "The $changeStream stage is only supported on replica sets", NotSupportedError, True),
        (50, "operation exceeded time limit", StoreUnavailableError, False),
        (64, "waiting for replication timed out", StoreUnavailableError, False),
        (189, "primary stepped down", StoreUnavailableError, False),
        (10107, "not master", StoreUnavailableError, False),
        (11600, "interrupted at shutdown", StoreUnavailableError, False),
        (13435, "not master and slaveOk=false", StoreUnavailableError, False),
        (276, "IndexBuildAborted", StoreUnavailableError, False),
        (338, "ReshardCollectionInProgress", StoreUnavailableError, False),
        (14031, "available disk space less than required", StoreUnavailableError, False),
    ],
)
def test_a_code_has_its_error(code: int, text: str, kind: type[LucidError], stalled: bool) -> None:
    error = answer(code, text)
    assert type(error) is kind
    assert error.stalled is stalled
    assert error.message.startswith("team A's MongoDB")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (11000, BUILD + 'E11000 duplicate key error collection: shop.users dup key: { email: "SECRET" }'),
        (359, 'Cannot convert the index to unique {email: "SECRET"}'),
        (16755, BUILD + 'Can\'t extract geo keys: { _id: 1, note: "SECRET" }'),
        (13026, BUILD + "geo values must be 'legacy coordinate pairs' for 2d indexes: [ \"SECRET\" ]"),
        (17262, BUILD + "language override unsupported: SECRET"),
        (2, BUILD + "something new about SECRET"),
        (2, "PlanExecutor error during aggregation :: caused by :: bad value SECRET"),
        (9, "Executor error during aggregate command on namespace: a.b :: caused by :: SECRET"),
        (241, "Failed to parse number 'SECRET' in $convert with no onError value"),
        (99999, "a code from the future that quotes SECRET"),
    ],
)
def test_values_of_documents_never_reach_a_message(code: int, text: str) -> None:
    error = answer(code, text)
    assert "SECRET" not in error.message
    assert error.message.endswith(".")


def test_duplicates_have_their_own_reason() -> None:
    error = answer(11000, BUILD + "E11000 duplicate key error")
    assert isinstance(error, DuplicateKeysError)
    assert error.reason is Reason.DUPLICATE_KEYS


def test_a_document_that_cannot_be_indexed_is_said_without_its_content() -> None:
    assert "not valid GeoJSON" in answer(16755, BUILD + "Can't extract geo keys: {...}").message


def test_a_missing_privilege_names_action_and_database() -> None:
    text = (
        'not authorized on shop to execute command { createIndexes: "users", lsid: { id: UUID("SECRET") } }'
    )
    error = answer(13, text)
    assert isinstance(error, AccessDeniedError)
    assert "createIndex on database shop" in error.message
    assert "SECRET" not in error.message


def test_long_texts_of_the_server_are_cut() -> None:
    assert len(answer(72, "x" * 100_000).message) < 800


def test_a_definition_that_cannot_be_encoded_is_an_invalid_spec() -> None:
    error = translate(bson.errors.InvalidDocument("key 'SECRET' must not contain null"), ATTEMPT)
    assert error.reason is Reason.INVALID_SPEC
    assert "SECRET" not in error.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("h:1: [Errno 111] Connection refused (configured timeouts: connectTimeoutMS: 5000.0ms)", "refused"),
        ("h:1: [Errno -2] Name or service not known", "host name not found"),
        ("h:1: timed out", "no answer in time"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "TLS handshake failed"),
        ("h:1: [Errno 113] No route to host", "no route"),
        ("connection closed", "connection closed"),
    ],
)
def test_network_failures_are_told_apart(text: str, words: str) -> None:
    assert words in why_unreachable(text)


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://user:SECRET@host:port/",
        "mongodb://user:SEC@RET@host/",
        "http://SECRET",
        "",
        "mongodb+srv://a,b.SECRET/",
    ],
)
def test_a_bad_connection_string_is_never_quoted(uri: str) -> None:
    with pytest.raises(LucidError) as refused:
        Connection(uri, label="team A's MongoDB", app_name="test", guard=lambda: None)
    assert refused.value.reason is Reason.SECRET_INVALID
    assert "SECRET" not in refused.value.message
    assert refused.value.__cause__ is None


async def test_an_option_that_the_driver_does_not_know_is_no_warning_that_quotes_it() -> None:
    # Warnings are errors in these tests.
    uri = "mongodb://localhost/?authMechanismProperties=SECRET:1&unknownOption=SECRET"
    await Connection(uri, label="M", app_name="test", guard=lambda: None).close()


@pytest.mark.parametrize(
    ("code", "everywhere"), [(46, False), (50, False), (112, False), (189, True), (10107, True)]
)
def test_what_only_this_operation_must_wait_for_is_no_outage_of_the_store(
    code: int, everywhere: bool
) -> None:
    error = answer(code, "words")
    assert isinstance(error, StoreUnavailableError)
    assert error.everywhere is everywhere


async def test_a_refused_login_is_not_hidden_by_what_is_remembered_of_the_server() -> None:
    connection = Connection("mongodb://nobody.invalid/", label="x", app_name="t", guard=lambda: None)
    connection._info = (
        asyncio.get_running_loop().time(),
        ServerInfo("set-1", (6, 0, 0), Topology.REPLICA_SET),
    )
    assert (await connection.info()).identity == "set-1"
    with pytest.raises(LoginFailedError):
        async with connection.bounded(ATTEMPT):
            raise pymongo.errors.OperationFailure("Authentication failed.", 18, {"ok": 0, "code": 18})
    assert connection._info is None
    await connection.close()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (10334, Reason.CONTENT_REFUSED),
        (67, Reason.CONTENT_REFUSED),
        (16755, Reason.CONTENT_REFUSED),
        (13, Reason.ACCESS_DENIED),
        (20, Reason.NOT_SUPPORTED),
        (146, Reason.SERVER_REFUSED),
        (388, Reason.SERVER_REFUSED),
        (291, Reason.SERVER_REFUSED),
        (371, Reason.SERVER_REFUSED),
        (8, Reason.SERVER_REFUSED),
        (14031, StoreUnavailableError.reason),
        (50, StoreUnavailableError.reason),
        (10107, StoreUnavailableError.reason),
    ],
)
def test_no_limit_of_a_server_is_called_the_fault_of_a_backup(code: int, reason: Reason) -> None:
    attempt = Attempt("The restore's MongoDB", "build the indexes of shop.users", content=True)
    failure = pymongo.errors.OperationFailure("no", code, {"ok": 0, "code": code, "errmsg": "no"})
    assert translate(failure, attempt).reason is reason
