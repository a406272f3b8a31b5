"""One client a deployment: every command goes through here, bounded, guarded and with errors translated."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TypeAlias

from pymongo import AsyncMongoClient, ReadPreference
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    AutoReconnect,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from lucid_storage.errors import (
    AccessDeniedError,
    LoginFailedError,
    NotSupportedError,
    ServerRefusedError,
    StoreUnavailableError,
)
from lucid_storage.stores.mongodb.errors import Attempt, invalid_uri, no_answer, translated, why_unreachable
from lucid_storage.stores.mongodb.types import ServerInfo, Topology

Document: TypeAlias = dict[str, object]
Command: TypeAlias = Mapping[str, object]

CALL_SECONDS = 20.0
SELECTION_MS = 5_000
MAX_CONNECTIONS = 16
INFO_SECONDS = 30.0
CLOSE_SECONDS = 1.0
SHORTEST_BUDGET_SECONDS = 0.01
COMPATIBILITY = "featureCompatibilityVersion"
UUID = "collectionUUID"
UUID_NOT_ENABLED = "collectionUUID parameter is not enabled"
MAJORITY: Mapping[str, object] = {"w": "majority", "wtimeout": 15_000}


class ExpectedAnswerError(Exception):
    """The server refused with a code that the caller named as a value, such as "not there"."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class Connection:
    """The driver's client behind our bounds and errors.

    `guard` is called right before each writing command and raises LeadershipLostError when this process
    may not act. Between it and the server lies the choice of a server (5 s at most).
    """

    def __init__(self, uri: str, *, label: str, app_name: str, guard: Callable[[], None]) -> None:
        self.label = label
        self._guard = guard
        self._info: tuple[float, ServerInfo] | None = None
        try:
            # The driver warns of options that it does not know, and quotes their values.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.client = self._client(uri, app_name)
        except (PyMongoError, ValueError, TypeError, KeyError):
            raise invalid_uri(label) from None

    @staticmethod
    def _client(uri: str, app_name: str) -> AsyncMongoClient[Document]:
        return AsyncMongoClient(
            uri,
            appname=app_name,
            maxPoolSize=MAX_CONNECTIONS,
            minPoolSize=0,
            maxIdleTimeMS=60_000,
            retryWrites=True,
            retryReads=True,
            serverSelectionTimeoutMS=SELECTION_MS,
            connectTimeoutMS=5_000,
            waitQueueTimeoutMS=10_000,
            datetime_conversion="DATETIME_MS",
            unicode_decode_error_handler="replace",
            tz_aware=False,
        )

    def attempt(self, task: str, *, action: str | None = None, reads_documents: bool = False) -> Attempt:
        return Attempt(self.label, task, action, reads_documents)

    def database(self, name: str) -> AsyncDatabase[Document]:
        return self.client.get_database(name)

    @asynccontextmanager
    async def bounded(
        self, attempt: Attempt, seconds: float | None = CALL_SECONDS, expected: Collection[int] = ()
    ) -> AsyncIterator[None]:
        """Our errors, and at most `seconds` of waiting for what the driver does inside (None: no bound).

        The driver's own bound for a block would also replace its bound for choosing a server, which has to stay
        short. Raises ExpectedAnswerError for the server's codes in `expected`.
        """
        try:
            with translated(attempt, self.unreachable):
                async with asyncio.timeout(seconds):
                    try:
                        yield
                    except OperationFailure as error:
                        if error.code is not None and error.code in expected:
                            raise ExpectedAnswerError(error.code) from None
                        raise
        except TimeoutError:
            self._info = None
            raise no_answer(attempt, seconds or 0) from None
        except (StoreUnavailableError, LoginFailedError):
            self._info = None  # a prober must ask the server, not our memory
            raise

    async def read(
        self,
        database: str,
        command: Command,
        attempt: Attempt,
        *,
        seconds: float = CALL_SECONDS,
        expected: Collection[int] = (),
    ) -> Document:
        """A reading command on the primary, tried once more when the connection was lost."""
        async with self.bounded(attempt, seconds, expected):
            try:
                return await self._run(database, command, seconds)
            except ServerSelectionTimeoutError:
                raise
            except AutoReconnect:
                return await self._run(database, command, seconds)

    async def write(
        self,
        database: str,
        command: Command,
        attempt: Attempt,
        *,
        seconds: float | None = CALL_SECONDS,
        expected: Collection[int] = (),
        concern: bool = True,
    ) -> Document:
        """A writing command with majority concern. Not repeated by itself: the caller looks again first.

        `concern=False` is for commands that take none and are confirmed by a majority by themselves.
        """
        async with self.bounded(attempt, seconds, expected):
            bound = {"writeConcern": dict(MAJORITY)} if concern else {}
            answer = await self._write(database, {**command, **bound}, seconds)
            problem = answer.get("writeConcernError")
            if isinstance(problem, Mapping):
                raise OperationFailure("write concern", int(problem.get("code", 64)), dict(problem))
            return answer

    async def aggregate(
        self,
        database: str,
        collection: str | None,
        pipeline: Sequence[Mapping[str, object]],
        attempt: Attempt,
        *,
        seconds: float = CALL_SECONDS,
        expected: Collection[int] = (),
    ) -> list[Document]:
        """All results of an aggregation on the primary; with no collection, of one on the database.

        The server itself ends it after `seconds`, so that nothing runs on when nobody waits any more.
        """
        scope = self.client.get_database(database, read_preference=ReadPreference.PRIMARY)
        async with self.bounded(attempt, seconds, expected):
            limit = int(seconds * 1000)
            if collection is None:
                cursor = await scope.aggregate(list(pipeline), maxTimeMS=limit)
            else:
                cursor = await scope[collection].aggregate(list(pipeline), maxTimeMS=limit)
            async with cursor:
                return await cursor.to_list()

    async def aggregate_within(
        self,
        seconds: float,
        database: str,
        collection: str,
        pipeline: Sequence[Mapping[str, object]],
        attempt: Attempt,
        *,
        collation: Mapping[str, object] | None = None,
        expected: Collection[int] = (),
    ) -> list[Document] | None:
        """An aggregation of `seconds` at most, from a secondary if there is one; None when it was cut off."""
        if seconds < SHORTEST_BUDGET_SECONDS:
            return None
        scope = self.client.get_database(database, read_preference=ReadPreference.SECONDARY_PREFERRED)
        async with self.bounded(attempt, seconds + SELECTION_MS / 1000 + 5, expected):
            try:
                cursor = await scope[collection].aggregate(
                    list(pipeline),
                    allowDiskUse=True,
                    collation=collation,
                    maxTimeMS=int(seconds * 1000),
                )
                async with cursor:
                    return await cursor.to_list()
            except ExecutionTimeout:
                return None

    async def info(self) -> ServerInfo:
        """Who the server is; cached for 30 s and forgotten when the connection is lost."""
        now = asyncio.get_running_loop().time()
        if self._info is not None and now - self._info[0] < INFO_SECONDS:
            return self._info[1]
        info = await self._ask_info()
        self._info = (now, info)
        return info

    def unreachable(self) -> str | OperationFailure:
        """Which hosts do not answer and why, for a person, or what one of them refused; no credentials."""
        answers = []
        for (host, port), server in self.client.topology_description.server_descriptions().items():
            if isinstance(server.error, OperationFailure):
                return server.error
            if server.error is not None:
                answers.append(f"{host}:{port} {why_unreachable(str(server.error))}")
            else:
                answers.append(f"{host}:{port} is {server.server_type_name}")
        if not answers:
            return "no member of the replica set was found; check hosts and replicaSet of the connection"
        return f"no primary can be reached ({'; '.join(answers[:7])})"

    async def close(self) -> None:
        """Tells the server, where it listens, that sessions and cursors are no longer needed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.client.close()
                return
        # What the driver wanted to tell a silent server it has forgotten by now: this closes what is left.
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.client.close()

    async def _run(self, database: str, command: Command, seconds: float | None) -> Document:
        bound = {} if seconds is None else {"maxTimeMS": int(seconds * 1000)}
        options = self.client.codec_options
        return await self.client.get_database(database).command({**command, **bound}, codec_options=options)

    async def _write(self, database: str, command: Command, seconds: float | None) -> Document:
        self._guard()
        try:
            return await self._run(database, command, seconds)
        except OperationFailure as error:
            if UUID not in command or UUID_NOT_ENABLED not in str(error):
                raise
        # The feature compatibility version is older, and could not be read: as on an older server, by name alone.
        self._guard()
        return await self._run(database, {k: v for k, v in command.items() if k != UUID}, seconds)

    async def _ask_info(self) -> ServerInfo:
        attempt = self.attempt("ask who it is")
        hello = await self.read("admin", {"hello": 1}, attempt)
        build = await self.read("admin", {"buildInfo": 1}, attempt)
        version = _version(build)
        if hello.get("msg") == "isdbgrid":
            return await self._cluster_info(version)
        if "setName" in hello:
            info = await self._replica_set_info(hello, version)
        else:
            identity = f"standalone/{','.join(self._hosts())}"
            info = ServerInfo(identity, version, Topology.STANDALONE, by_hosts=True)
        return replace(info, compatibility=await self._compatibility())

    async def _compatibility(self) -> tuple[int, int] | None:
        attempt = self.attempt("read its feature compatibility version", action="getParameter")
        try:
            answer = await self.read("admin", {"getParameter": 1, COMPATIBILITY: 1}, attempt)
        except (AccessDeniedError, NotSupportedError, ServerRefusedError):
            return None
        parts = str(_at(answer, COMPATIBILITY, "version")).split(".")
        return (int(parts[0]), int(parts[1])) if len(parts) == 2 else None

    async def _replica_set_info(self, hello: Document, version: tuple[int, int, int]) -> ServerInfo:
        attempt = self.attempt("read the replica set's id", action="replSetGetConfig")
        try:
            answer = await self.read("admin", {"replSetGetConfig": 1}, attempt)
        except AccessDeniedError:
            hosts = hello.get("hosts")
            names = ",".join(sorted(map(str, hosts))) if isinstance(hosts, list) else ",".join(self._hosts())
            identity = f"replicaSet/{hello['setName']}/{names}"
            return ServerInfo(identity, version, Topology.REPLICA_SET, by_hosts=True)
        identity = str(_at(answer, "config", "settings", "replicaSetId"))
        return ServerInfo(identity, version, Topology.REPLICA_SET)

    async def _cluster_info(self, version: tuple[int, int, int]) -> ServerInfo:
        attempt = self.attempt("read the sharded cluster's id", action="find on config.version")
        command = {"find": "version", "filter": {"clusterId": {"$exists": True}}, "limit": 1}
        try:
            answer = await self.read("config", command, attempt)
        except AccessDeniedError:
            identity = f"sharded/{','.join(self._hosts())}"
            return ServerInfo(identity, version, Topology.SHARDED, by_hosts=True)
        batch = _at(answer, "cursor", "firstBatch")
        found = batch[0].get("clusterId") if isinstance(batch, list) and batch else None
        if found is None:
            identity = f"sharded/{','.join(self._hosts())}"
            return ServerInfo(identity, version, Topology.SHARDED, by_hosts=True)
        return ServerInfo(str(found), version, Topology.SHARDED)

    def _hosts(self) -> list[str]:
        servers = self.client.topology_description.server_descriptions()
        return sorted(f"{host}:{port}" for host, port in servers)


def _version(build: Document) -> tuple[int, int, int]:
    parts = build.get("versionArray")
    assert isinstance(parts, list)
    major, minor, patch = (int(part) for part in parts[:3])
    return major, minor, patch


def _at(document: object, *path: str) -> object:
    for name in path:
        document = document.get(name) if isinstance(document, Mapping) else None
    return document
