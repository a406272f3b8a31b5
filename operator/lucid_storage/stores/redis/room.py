"""Room in a Redis that is restored into: what fits below its maxmemory, and that it evicts nothing for it.

A server with an eviction policy answers each write with OK and removes other keys instead, those of the application or
those just restored. So what cannot fit is refused before the first write, what would no longer fit is not sent, and
the first eviction ends the restore. Keys whose time is over are counted apart by the server, and are no evictions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic, sleep

from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.models.quantity import for_people
from lucid_storage.stores.redis.members import server_info
from lucid_storage.stores.redis.wire import Wire

NO_EVICTION = "noeviction"
LEAST_KEY_BYTES = 24
"""Of a key beside its name and value: its entry in the table (dictEntry in Redis's dict.h)."""
KEY_BYTES = 160
"""The same with all that commonly comes with it: the value's head, an expiry, what the allocator rounds up to."""
_COPIES = 2
"""Of a long argument while its command runs: itself, and a query buffer for the next one, as long (networking.c)."""
_ROUNDED_UP = 4
"""An allocator gives a quarter more than it is asked for, where its classes of sizes lie furthest apart."""
_BUFFERED_BYTES = 32 * 1024
"""Of an argument that a server makes a buffer for (PROTO_MBULK_BIG_ARG in server.h)."""
_BUFFER_SECONDS = 3.0
"""Until that buffer is free again: at the second look at the connection, which is each second (clientsCron)."""
_AGAIN_SECONDS = 0.1
_HELD = re.compile(r"keys=(\d+)")


@dataclass(slots=True)
class Needed:
    """What keys of one database take at least, in bytes."""

    keys: int = 0
    bytes: int = 0
    largest: int = 0

    def add(self, plain: int) -> None:
        """A key of so many bytes, name and value."""
        size = plain + LEAST_KEY_BYTES
        self.keys += 1
        self.bytes += size
        self.largest = max(self.largest, size)

    def new_at_least(self, held: int) -> int:
        """Of them, when the database holds so many keys, each of which may be one of them."""
        return max(self.bytes - min(held, self.keys) * self.largest, 0)


def buffered(payload: int) -> int:
    """Bytes that a server keeps for a while beside an argument of so many, and beside its value; rounded up."""
    return payload + payload // _ROUNDED_UP


class Room:
    """Asks the server before each batch and at the end. Raises LucidError."""

    def __init__(self, wire: Wire, info: Mapping[str, str]) -> None:
        self._wire = wire
        self._info = info
        self._counted = number(info, "evicted_keys")
        self._evicted = 0
        self._stays = 0
        self._buffer_until = 0.0

    def refuse(self, needs: Mapping[int, Needed], *, replace: bool) -> None:
        """Before the first write: keys that surely do not fit, whatever of them is there already."""
        most = number(self._info, "maxmemory")
        held = {database: _held(self._info, database) for database in needs}
        if replace and any(held.values()):  # what is replaced gives its memory back
            used, needed = 0, sum(need.bytes for need in needs.values())
        else:
            used = _used(self._info)
            needed = sum(need.new_at_least(held[database]) for database, need in needs.items())
        self._stays = used
        if most and used + needed > most:
            taken = f", of which {for_people(used)} are in use" if used else ""
            raise self._error(
                f"has a maxmemory of {for_people(most)}{taken}, and the chosen keys need at least"
                f" {for_people(needed)}; nothing was written to Redis"
            )

    def takes(self, payload: int) -> bool:
        """Whether a command with so long an argument may fit, whatever is replaced before it. After `refuse`."""
        most = number(self._info, "maxmemory")
        return not most or self._stays + _COPIES * payload <= most

    def too_long(self, payload: int) -> LucidError:
        """What it means that it does not, before the first write."""
        taken = f", of which {for_people(self._stays)} are in use" if self._stays else ""
        return self._error(
            f"has a maxmemory of {for_people(number(self._info, 'maxmemory'))}{taken}, and to be sent a value of"
            f" {for_people(payload)} needs {for_people(_COPIES * payload)}; nothing was written to Redis"
        )

    def refuse_full(self) -> None:
        """Where the server can take nothing at all."""
        most, used = number(self._info, "maxmemory"), _used(self._info)
        if most and used > most:
            raise self._error(
                f"has a maxmemory of {for_people(most)}, and {for_people(used)} are in use; nothing was written to"
                " Redis"
            )

    def look(self) -> None:
        """After what was written."""
        self._info = info = server_info(self._wire)
        counted = number(info, "evicted_keys")
        # Less than before: the statistics were reset (CONFIG RESETSTAT, or a restart behind a proxy).
        self._evicted += counted - self._counted if counted >= self._counted else counted
        self._counted = counted
        if self._evicted:
            raise self._error(
                f"has evicted at least {self._evicted} keys so far, of the application or of the backup, while it was"
                f" written to (maxmemory {for_people(number(info, 'maxmemory'))}, {self._policy}); the restore was"
                " stopped"
            )

    def holds(self, coming: int) -> bool:
        """Whether so many bytes more fit, by the last look."""
        most = number(self._info, "maxmemory")
        return not most or coming <= most - _used(self._info)

    def sent(self, longest: int) -> None:
        """After commands of which the longest argument has so many bytes: its buffer counts for a while."""
        if longest >= _BUFFERED_BYTES:
            self._buffer_until = monotonic() + _BUFFER_SECONDS

    def refuse_eviction(self, coming: int) -> None:
        """Before so many bytes more, where others would go for them. Waits for the buffer of the last command."""
        while not self.holds(coming) and monotonic() < self._buffer_until:
            sleep(_AGAIN_SECONDS)
            self.look()
        if self._policy == NO_EVICTION or self.holds(coming):
            return
        most = number(self._info, "maxmemory")
        raise self._error(
            f"has {for_people(max(most - _used(self._info), 0))} left of its maxmemory of {for_people(most)}, and would"
            f" evict other keys ({self._policy}) for the next ones; the restore was stopped before that"
        )

    def out_of_memory(self) -> LucidError:
        """What its refusal of a write means here."""
        return self._error("is out of memory and refuses writes; the restore was stopped")

    @property
    def _policy(self) -> str:
        return self._info.get("maxmemory_policy", NO_EVICTION)

    def _error(self, what: str) -> LucidError:
        return RefusedError(
            f"{self._wire.subject} {what}. Raise maxmemory there, or choose fewer keys by redis.keyPatterns.",
            reason=Reason.NOT_ENOUGH_SPACE,
        )


def _used(info: Mapping[str, str]) -> int:
    """Bytes that count: the buffers of replicas and of the append-only file do not."""
    return max(number(info, "used_memory") - number(info, "mem_not_counted_for_evict"), 0)


def _held(info: Mapping[str, str], database: int) -> int:
    """Keys in a database now."""
    found = _HELD.match(info.get(f"db{database}", ""))
    return int(found[1]) if found else 0


def number(info: Mapping[str, str], name: str) -> int:
    """Of INFO; 0 for what the server does not tell."""
    text = info.get(name, "").strip()
    return int(text) if text.isdecimal() else 0
