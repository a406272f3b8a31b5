"""Keys on their way into a live Redis: RESTORE in batches, each with its time to live, nothing else touched.

A value that is larger than a batch goes alone, and is sent as it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple

from lucid_storage.errors import LucidError, ServerRefusedError, StoreUnavailableError
from lucid_storage.models.quantity import for_people
from lucid_storage.stores.redis.rdb.dataset import Key, ValueSize
from lucid_storage.stores.redis.refusals import explained, function_of_another
from lucid_storage.stores.redis.room import KEY_BYTES, Needed, Room, buffered
from lucid_storage.stores.redis.target import MOST_BYTES, check_target, refuse_longer
from lucid_storage.stores.redis.wire import CALL_SECONDS, ErrorReply, Reply, Wire

BATCH_KEYS = 500
BATCH_BYTES = 2 * 1024 * 1024
IDLE_SECONDS = 15.0
SLOWEST_BYTES_PER_SECOND = 4 * 1024 * 1024
"""A large value is waited for so long: a small board copies and builds it."""

Payload = tuple[bytes, ...]


class Item(NamedTuple):
    """A key on its way."""

    key: Key
    payload: Payload
    memory: int
    """Bytes that it takes there, rounded up."""
    length: int
    """Bytes of the payload."""


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
    unanswered: int = 0
    """Keys that were sent when the connection broke: they may have been written."""
    functions: int = 0
    functions_skipped: int = 0
    """Libraries that exist and stay, or whose functions another library has."""

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
        self._batch: list[Item] = []
        self._bytes = 0
        self._coming = 0
        self._asked = monotonic()
        self._inside = False  # a command of which a part is still to come
        self._room = Room(wire, {})

    def prepare(
        self, version: int, needs: Mapping[int, Needed], largest: int, large: Iterable[tuple[Key, ValueSize]]
    ) -> None:
        """Before the first write: what this server cannot take is refused as a whole.

        `version` is the data set's, `needs` what its keys need by database, `largest` the bytes of the longest payload,
        `large` what goes alone.
        """
        wire = self._wire
        info = check_target(wire, version)
        refuse_longer(wire, info, largest)
        for database in sorted(needs):
            self._select(database)
        self._room = Room(wire, info)
        self._room.refuse(needs, replace=self._replace)
        for key, size in large:
            if not self._room.takes(size.payload) and self._writes(key):
                raise self._room.too_long(size.payload)

    def now_ms(self) -> int:
        """By the server's clock, which expiry goes by."""
        self._asked = monotonic()
        reply = self._wire.call("TIME")
        if not isinstance(reply, list) or len(reply) != 2:
            raise StoreUnavailableError(f"{self._wire.subject} does not tell its time.")
        seconds, microseconds = (int(part) for part in reply if isinstance(part, bytes))
        return seconds * 1000 + microseconds // 1000

    def stay(self) -> None:
        """While keys are passed over: servers (`timeout`) and proxies hang up on who is silent."""
        if not self._inside and monotonic() - self._asked > IDLE_SECONDS:
            self.now_ms()

    def load_function(self, code: bytes) -> None:
        """A library of functions. One that exists stays, or is replaced."""
        replace = ("REPLACE",) if self._replace else ()
        self._wire.send([("FUNCTION", "LOAD", *replace, code)])
        reply = self._wire.reply()
        if not isinstance(reply, ErrorReply):
            self.counts.functions += 1
        elif b"already exists" not in reply.text:
            raise self._wire.refusal(reply)
        elif self._replace:
            raise function_of_another(self._wire.subject, code)
        else:
            self.counts.functions_skipped += 1

    def add(self, key: Key, payload: Payload, likely: int) -> None:
        """Takes a key, and writes the batch when it is full. `likely` is the memory that its value takes, in bytes."""
        if self._batch and key.database != self._batch[0].key.database:
            self.flush()
        item = Item(key, payload, likely + len(key.name) + KEY_BYTES, sum(map(len, payload)))
        self._batch.append(item)
        self._bytes += item.length + len(key.name)
        self._coming += item.memory
        if len(self._batch) >= BATCH_KEYS or max(self._bytes, self._coming) >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes what is left."""
        batch, self._batch, self._bytes, self._coming = self._batch, [], 0, 0
        if not batch:
            return
        self._check()
        self._room.look()
        now = self.now_ms()
        alive = [item for item in batch if item.key.expires_at is None or item.key.expires_at > now]
        self.counts.expired += len(batch) - len(alive)
        if not alive:
            return  # nor is there need of a database for them
        self._select(alive[0].key.database)
        if not self._replace and not self._room.holds(_memory(alive)):
            there = self._exist([item.key for item in alive])
            self.counts.skipped += sum(there)
            alive = [item for item, exists in zip(alive, there, strict=True) if not exists]
        self._room.refuse_eviction(_memory(alive))
        busy = self._restore(alive, replace=False)
        self._room.sent(_longest(alive))
        if self._replace:
            self._restore(busy, replace=True)
        else:
            self.counts.skipped += len(busy)

    def add_large(
        self, key: Key, size: ValueSize, write_value: Callable[[Callable[[bytes], None]], None]
    ) -> None:
        """Writes a key alone. `write_value` passes on its value, and is not called when the key is not written."""
        self.flush()
        self._check()
        if self._over(key):
            self.counts.expired += 1
            return
        there = self._exists(key)
        if there and not self._replace:
            self.counts.skipped += 1
            return
        self._room.look()
        self._room.refuse_eviction(size.likely + len(key.name) + KEY_BYTES + buffered(size.payload))
        option = ("REPLACE",) if self._replace else ()
        before = ("RESTORE", key.name, key.expires_at or 0)
        self._inside = True
        try:
            self._wire.send_large(before, size.payload, write_value, *option, "ABSTTL")
            self.counts.unanswered = 1
            self._wire.wait(CALL_SECONDS + size.payload / SLOWEST_BYTES_PER_SECOND)
            reply = self._wire.reply()
        except StoreUnavailableError as error:
            raise StoreUnavailableError(
                f"{error.message} That was with a value of {for_people(size.payload)}: see {' and '.join(MOST_BYTES)}"
                " there."
            ) from error
        self._inside = False
        self.counts.unanswered = 0
        self._wire.wait(CALL_SECONDS)
        self._room.sent(size.payload)
        busy = self._answers([Item(key, (), 0, 0)], (reply,), replace=there)
        self.counts.skipped += len(busy)  # somebody made it meanwhile

    def _writes(self, key: Key) -> bool:
        """Whether it would be written, as things stand."""
        return not self._over(key) and (self._replace or not self._exists(key))

    def _over(self, key: Key) -> bool:
        """Whether its time is over, by the server's clock."""
        return key.expires_at is not None and key.expires_at <= self.now_ms()

    def _exists(self, key: Key) -> bool:
        self._select(key.database)
        return self._exist([key])[0]

    def _exist(self, keys: Sequence[Key]) -> list[bool]:
        """By the command that is allowed anyway: RESTORE tells that a key exists before it looks at the payload, and an
        empty one is always refused.
        """
        self._wire.send([("RESTORE", key.name, 0, b"", "ABSTTL") for key in keys])
        replies = [self._wire.reply() for _ in keys]
        for reply in replies:
            if isinstance(reply, ErrorReply) and not (
                reply.word == b"BUSYKEY" or b"payload version" in reply.text
            ):
                raise explained(self._wire, self._room, reply)
        return [isinstance(reply, ErrorReply) and reply.word == b"BUSYKEY" for reply in replies]

    def finish(self) -> None:
        """Writes what is left. Raises LucidError when the server evicted keys."""
        self.flush()
        self._room.look()

    def _select(self, database: int) -> None:
        if database == self._database:
            return
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

    def _restore(self, batch: list[Item], *, replace: bool) -> list[Item]:
        """Those that exist already."""
        option = ("REPLACE",) if replace else ()
        try:
            self._wire.send(
                [
                    ("RESTORE", item.key.name, item.key.expires_at or 0, item.payload, *option, "ABSTTL")
                    for item in batch
                ]
            )
        except LucidError:
            self.counts.unanswered += len(batch)
            raise
        return self._answers(batch, (self._wire.reply() for _ in batch), replace=replace)

    def _answers(self, batch: list[Item], replies: Iterable[Reply], *, replace: bool) -> list[Item]:
        """Those that exist already. Reads every reply before it raises, so that the counts are right."""
        busy, refused, done = [], None, 0
        left = len(batch)
        try:
            for item, reply in zip(batch, replies, strict=True):
                left -= 1
                if not isinstance(reply, ErrorReply):
                    done += 1
                elif reply.word == b"BUSYKEY":
                    busy.append(item)
                else:
                    refused = refused or reply
        finally:
            self.counts.unanswered += left
            if replace:
                self.counts.replaced += done
            else:
                self.counts.restored += done
        if refused is not None:
            raise explained(self._wire, self._room, refused)
        return busy


def _memory(batch: Sequence[Item]) -> int:
    """Bytes that they need while they are sent."""
    return sum(item.memory for item in batch) + buffered(_longest(batch))


def _longest(batch: Sequence[Item]) -> int:
    return max((item.length for item in batch), default=0)
