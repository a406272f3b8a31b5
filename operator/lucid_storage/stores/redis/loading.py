"""Keys on their way into a live Redis: RESTORE in batches, each with its time to live, nothing else touched."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lucid_storage.errors import LucidError, NotSupportedError, ServerRefusedError, StoreUnavailableError
from lucid_storage.stores.redis.members import server_info
from lucid_storage.stores.redis.rdb.dataset import Key
from lucid_storage.stores.redis.sentences import PASSING, cluster_sentence, loading_sentence
from lucid_storage.stores.redis.wire import ErrorReply, Wire

BATCH_KEYS = 500
BATCH_BYTES = 2 * 1024 * 1024
_READ_BY = (((7, 4), 12), ((7, 2), 11), ((7, 0), 10), ((5, 0), 9))
"""The newest version of a data set that a server reads, by its own version (RDB_VERSION in Redis's rdb.h)."""
_NUMBERS = re.compile(r"(\d+)\.(\d+)")

Payload = tuple[bytes, ...]


@dataclass(slots=True)
class LoadCounts:
    """What became of the keys."""

    restored: int = 0
    """Keys that were absent."""
    replaced: int = 0
    skipped: int = 0
    """Keys that exist and stay as they are."""
    expired: int = 0
    """Keys whose time was over before they could be restored."""

    @property
    def written(self) -> int:
        return self.restored + self.replaced


class KeyLoader:
    """Writes keys through one connection. `check` may raise, to stop between batches.

    Every method raises LucidError. What was written by then stays, and a further run skips it.
    """

    def __init__(self, wire: Wire, *, replace: bool, check: Callable[[], None] = lambda: None) -> None:
        self.counts = LoadCounts()
        self._wire = wire
        self._replace = replace
        self._check = check
        self._database: int | None = None
        self._batch: list[tuple[Key, Payload]] = []
        self._bytes = 0
        self._began_ms = 0

    def prepare(self, version: int, databases: Iterable[int]) -> None:
        """Before the first write: what this server cannot take is refused as a whole.

        `version` is the data set's, `databases` are the numbers that it has keys in.
        """
        wire, info = self._wire, server_info(self._wire)
        if info.get("cluster_enabled") == "1" or info.get("redis_mode") == "cluster":
            raise NotSupportedError(cluster_sentence(wire.subject))
        if info.get("loading") == "1":
            raise StoreUnavailableError(loading_sentence(wire.subject))
        if info.get("role") == "slave":
            raise StoreUnavailableError(f"{wire.subject} {PASSING['READONLY']}.")
        self._refuse_older(info.get("redis_version", ""), version)
        for database in sorted(databases):
            self._select(database)

    def _refuse_older(self, shown: str, version: int) -> None:
        found = _NUMBERS.match(shown)
        server = (int(found[1]), int(found[2])) if found else (0, 0)
        reads = next((newest for least, newest in _READ_BY if server >= least), 0)
        if reads < version:
            raise NotSupportedError(
                f"{self._wire.subject} has version {shown} and cannot read this backup, which a newer Redis wrote; "
                "restore into that version or a later one."
            )

    def now_ms(self) -> int:
        """By the server's clock, which expiry goes by."""
        reply = self._wire.call("TIME")
        if not isinstance(reply, list) or len(reply) != 2:
            raise StoreUnavailableError(f"{self._wire.subject} does not tell its time.")
        seconds, microseconds = (int(part) for part in reply if isinstance(part, bytes))
        return seconds * 1000 + microseconds // 1000

    def load_function(self, code: bytes) -> bool:
        """A library of functions; False when it exists and stays."""
        replace = ("REPLACE",) if self._replace else ()
        self._wire.send([("FUNCTION", "LOAD", *replace, code)])
        reply = self._wire.reply()
        if not isinstance(reply, ErrorReply):
            return True
        if b"already exists" in reply.text:
            return False
        raise self._wire.refusal(reply)

    def add(self, key: Key, payload: Payload) -> None:
        """Takes a key, and writes the batch when it is full."""
        if self._batch and key.database != self._database:
            self.flush()
        if key.database != self._database:
            self._select(key.database)
        self._batch.append((key, payload))
        self._bytes += sum(map(len, payload)) + len(key.name)
        if len(self._batch) >= BATCH_KEYS or self._bytes >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes what is left."""
        batch, self._batch, self._bytes = self._batch, [], 0
        if not batch:
            return
        self._check()
        now = self.now_ms()
        alive = [item for item in batch if item[0].expires_at is None or item[0].expires_at > now]
        self.counts.expired += len(batch) - len(alive)
        busy = self._restore(alive, replace=False)
        self.counts.restored += len(alive) - len(busy)
        if self._replace:
            self._restore(busy, replace=True)
            self.counts.replaced += len(busy)
        else:
            self.counts.skipped += len(busy)

    def _select(self, database: int) -> None:
        self._wire.send([("SELECT", database)])
        reply = self._wire.reply()
        if isinstance(reply, ErrorReply):
            if b"DB index" in reply.text:
                raise ServerRefusedError(
                    f"{self._wire.subject} has no database {database}, in which the backup has keys; "
                    "raise `databases` in its configuration."
                )
            raise self._wire.refusal(reply)
        self._database = database

    def _restore(self, batch: list[tuple[Key, Payload]], *, replace: bool) -> list[tuple[Key, Payload]]:
        """Those that exist already. Reads every reply before it raises, so that the counts are right."""
        option = ("REPLACE",) if replace else ()
        self._wire.send(
            [("RESTORE", key.name, key.expires_at or 0, payload, *option, "ABSTTL") for key, payload in batch]
        )
        busy, refused, done = [], None, 0
        for item in batch:
            reply = self._wire.reply()
            if not isinstance(reply, ErrorReply):
                done += 1
            elif reply.word == b"BUSYKEY":
                busy.append(item)
            else:
                refused = refused or reply
        if refused is not None:
            self._count(done, replace=replace)
            raise self._explained(refused)
        return busy

    def _count(self, done: int, *, replace: bool) -> None:
        if replace:
            self.counts.replaced += done
        else:
            self.counts.restored += done

    def _explained(self, reply: ErrorReply) -> LucidError:
        if b"payload version" in reply.text or b"Bad data format" in reply.text:
            return NotSupportedError(
                f"{self._wire.subject} does not understand a value of this backup; restore into the version of "
                "Redis that wrote it."
            )
        return self._wire.refusal(reply)
