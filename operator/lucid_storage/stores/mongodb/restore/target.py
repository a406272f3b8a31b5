"""The server that is restored into, as a worker sees it: blocking, majority writes, patient over elections."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Container, Mapping
from types import TracebackType
from typing import Any

from bson import Binary
from bson.codec_options import CodecOptions
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from lucid_storage.errors import StoreUnavailableError
from lucid_storage.stores.mongodb.connection import COMPATIBILITY, UUID, UUID_NOT_ENABLED
from lucid_storage.stores.mongodb.errors import (
    NAMESPACE_NOT_FOUND,
    NO_PRIMARY,
    UNAUTHORIZED,
    UUID_MISMATCH,
    Attempt,
    invalid_uri,
    translated,
)
from lucid_storage.stores.mongodb.restore.catalog import any_document
from lucid_storage.stores.mongodb.restore.entries import RAW_OPTIONS

Document = dict[str, object]

LABEL = "The restore's MongoDB"
MAJORITY: Mapping[str, object] = {"w": "majority"}
PATIENCE_SECONDS = 120.0
"""For how long a lost server is waited for: an election, a restart."""
LAG_SECONDS = 20
"""A secondary that is further behind than this is waited for (rule 2.8)."""
_LAG_PERIOD_SECONDS = 5.0
_PAUSE_SECONDS = 0.5
_WIRE_VERSION_5_1 = 14
_WIRE_VERSION_6_0 = 17


class Target:
    """One deployment. Methods raise LucidError with the sentence for a person.

    `check` raises when the run is to end; it is called before each command and while waiting.
    """

    def __init__(
        self,
        uri: str,
        *,
        check: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._check = check
        self._clock = clock
        self._wait = wait
        self._lag_looked = float("-inf")
        self._lag_readable = True
        self.before_write: Callable[[], None] = lambda: None
        """Called each time before a write is sent; raises when this process may not write any more."""
        self.pace: Callable[[], None] = lambda: None
        """Called where secondaries are waited for; blocks while somebody else is to catch up."""
        try:
            # The driver warns of options that it does not know, and quotes their values.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._client: MongoClient[Document] = MongoClient(
                    uri,
                    appname="lucid-storage-restore",
                    maxPoolSize=16,
                    serverSelectionTimeoutMS=30_000,
                    connectTimeoutMS=10_000,
                    datetime_conversion="DATETIME_MS",
                    unicode_decode_error_handler="replace",
                )
        except (PyMongoError, ValueError, TypeError, KeyError):
            raise invalid_uri("The restore's MongoDB") from None

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def command(
        self,
        database: str,
        command: Mapping[str, object],
        task: str,
        *,
        expected: Container[int] = (),
        raw: bool = False,
        content: bool = False,
        sent_again: Callable[[], None] = lambda: None,
    ) -> Document:
        """One command on the primary. A lost connection is waited out and the command sent again, so each must be one
        that does no harm when it comes twice; `sent_again` is called before that. The same holds where the primary
        stepped down before a majority had the write: it may be rolled back. The server's answer to a code of
        `expected` is returned as it is, with `ok` 0. With `raw`, documents in the answer stay the server's bytes; with
        `content`, what is sent is the backup's, and its refusal ContentRefused.
        Raises LucidError, also when a majority does not confirm the write.
        """
        with translated(Attempt(LABEL, task, content=content)):
            scope = self._client.get_database(database)
            options: CodecOptions[Any] = RAW_OPTIONS if raw else self._client.codec_options
            end = self._clock() + PATIENCE_SECONDS
            while True:
                self._check()
                try:
                    answer = dict(scope.command(dict(command), codec_options=options))
                except AutoReconnect:
                    if self._clock() >= end:
                        raise
                except OperationFailure as error:
                    if UUID in command and UUID_NOT_ENABLED in str(error):
                        # Its feature compatibility version is older: as on an older server, by name alone.
                        command = {key: value for key, value in command.items() if key != UUID}
                        sent_again()
                        continue
                    if error.code not in expected:
                        raise
                    answer = {**(error.details or {}), "ok": 0, "code": error.code}
                    if confirmed(answer, task, last=self._clock() >= end):
                        return answer
                else:
                    if confirmed(answer, task, last=self._clock() >= end):
                        return answer
                self._wait(_PAUSE_SECONDS)
                sent_again()

    def write(
        self,
        database: str,
        command: Mapping[str, object],
        task: str,
        *,
        expected: Container[int] = (),
        raw: bool = False,
        content: bool = False,
        sent_again: Callable[[], None] = lambda: None,
    ) -> Document:
        """A command that a majority has when it returns."""

        def again() -> None:
            # The right to write may have ended while the server was waited for.
            self.before_write()
            sent_again()

        self.before_write()
        concerned = {**command, "writeConcern": dict(MAJORITY)}
        return self.command(
            database, concerned, task, expected=expected, raw=raw, content=content, sent_again=again
        )

    def pause(self) -> None:
        """Between two looks at something that is waited for."""
        self._check()
        self._wait(_PAUSE_SECONDS)

    def collection_uuid(self, database: str, name: str) -> bytes | None:
        """None when there is no such collection."""
        answer = self.command(
            database,
            {"listCollections": 1, "filter": {"name": name}, "cursor": {}},
            f"look for {database}.{name}",
        )
        cursor = answer["cursor"]
        assert isinstance(cursor, Mapping)
        for found in cursor["firstBatch"]:
            uuid = found.get("info", {}).get("uuid")
            return bytes(uuid) if isinstance(uuid, bytes) else b""
        return None

    def names(self, database: str, prefix: str) -> list[str]:
        """Collections whose names begin so; where there are many, some of them."""
        answer = self.command(
            database,
            {
                "listCollections": 1,
                "filter": {"name": {"$regex": f"^{prefix}"}},
                "nameOnly": True,
                "cursor": {},
            },
            f"look for what is staged in {database}",
        )
        cursor = answer["cursor"]
        assert isinstance(cursor, Mapping)
        return [str(found["name"]) for found in cursor["firstBatch"]]

    def count(self, database: str, name: str) -> int:
        """As the server counts them, exact unless it crashed since; but 0 only where there is none."""
        task, missing = f"count {database}.{name}", {NAMESPACE_NOT_FOUND}
        found = self.command(database, {"count": name}, task, expected=missing).get("n", 0)
        assert isinstance(found, int)
        if found > 0:
            return found
        cursor = self.command(database, any_document(name), task, expected=missing).get("cursor", {})
        assert isinstance(cursor, Mapping)
        return len(cursor.get("firstBatch", ()))

    def drop(self, database: str, name: str, uuid: bytes | None = None) -> None:
        """Harmless when it is gone. With `uuid`, and since the feature compatibility version 6.0 of MongoDB, also when
        another one has the name by then.
        """
        command: Document = {"drop": name}
        if uuid and self._compares_uuids():
            command[UUID] = Binary(uuid, 4)
        gone = {NAMESPACE_NOT_FOUND, UUID_MISMATCH}
        self.write(database, command, f"drop {database}.{name}", expected=gone)

    def turns_into_ttl(self) -> bool:
        """Whether collMod gives an expiry to an index that has none."""
        return self._wire_version() >= _WIRE_VERSION_5_1

    def compatibility(self) -> str | None:
        """Its featureCompatibilityVersion, such as 6.0; None where the login may not read it."""
        command = {"getParameter": 1, COMPATIBILITY: 1}
        answer = self.command("admin", command, "ask for its features", expected={UNAUTHORIZED})
        found = answer.get(COMPATIBILITY)
        return str(found["version"]) if isinstance(found, Mapping) else None

    def _compares_uuids(self) -> bool:
        """Servers before 6.0 refuse a command that names one."""
        return self._wire_version() >= _WIRE_VERSION_6_0

    def _wire_version(self) -> int:
        version = self.command("admin", {"hello": 1}, "ask for its version").get("maxWireVersion")
        return version if isinstance(version, int) else 0

    def wait_for_secondaries(self) -> None:
        """Blocks while a secondary is far behind. Looks every few seconds at most, so it may be called often."""
        self.pace()
        while self._lag_readable and self._clock() - self._lag_looked >= _LAG_PERIOD_SECONDS:
            answer = self.command(
                "admin", {"replSetGetStatus": 1}, "look at the secondaries", expected={13, 76, 94}
            )
            self._lag_readable = bool(answer.get("ok"))
            if lag_seconds(answer) < LAG_SECONDS:
                self._lag_looked = self._clock()
                return
            self.pause()


def confirmed(answer: Mapping[str, object], task: str, *, last: bool) -> bool:
    """Whether a majority has the write; False when it is to be sent again, which never is on the `last` look.

    The driver raises nothing for an answer with a `writeConcernError`. Raises StoreUnavailableError.
    """
    concern = answer.get("writeConcernError")
    if not isinstance(concern, Mapping):
        return True
    if concern.get("code") in NO_PRIMARY and not last:
        return False
    raise StoreUnavailableError(
        f"The restore's MongoDB: cannot {task}: a majority of the members did not confirm it; see to the replica set's"
        " members, then restore again."
    )


def lag_seconds(status: Mapping[str, object]) -> float:
    """How far the slowest healthy secondary is behind the primary, from replSetGetStatus."""
    members = status.get("members")
    moments: dict[str, list[float]] = {"PRIMARY": [], "SECONDARY": []}
    for member in members if isinstance(members, list) else ():
        state, optime = member.get("stateStr"), member.get("optime")
        seconds = getattr(optime.get("ts"), "time", None) if isinstance(optime, Mapping) else None
        if state in moments and seconds is not None and member.get("health") == 1:
            moments[state].append(float(seconds))
    if not moments["PRIMARY"] or not moments["SECONDARY"]:
        return 0.0
    return max(moments["PRIMARY"]) - min(moments["SECONDARY"])
