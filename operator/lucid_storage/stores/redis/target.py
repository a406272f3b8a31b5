"""What a Redis that is restored into cannot take, told before the first write."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lucid_storage.errors import NotSupportedError, StoreUnavailableError
from lucid_storage.models.quantity import for_people
from lucid_storage.stores.redis.members import server_info
from lucid_storage.stores.redis.room import Room, number
from lucid_storage.stores.redis.sentences import PASSING, cluster_sentence, loading_sentence
from lucid_storage.stores.redis.wire import READ_BYTES, Wire

_READ_BY = (((7, 4), 12), ((7, 2), 11), ((7, 0), 10), ((5, 0), 9))
"""The newest version of a data set that a server reads, by its own version (RDB_VERSION in Redis's rdb.h)."""
_NUMBERS = re.compile(r"(\d+)\.(\d+)")
MOST_BYTES = {
    "proto-max-bulk-len": 512 * 1024 * 1024,
    "client-query-buffer-limit": 1024 * 1024 * 1024,
    "maxmemory-clients": 0,
}
"""Settings that bound one argument of a command, with Redis's defaults (0: no bound). Above them it hangs up."""
_LEAST_MOST_BYTES = 1024 * 1024
"""What the first two are at least. What they hold beside the argument is far less."""
_LIMIT = re.compile(rb"(\d+)(%?)")


def dataset_version(shown: str) -> int:
    """The version of the data set that a server of this version writes, and the newest that it reads; 0 for unknown."""
    found = _NUMBERS.match(shown)
    server = (int(found[1]), int(found[2])) if found else (0, 0)
    return next((newest for least, newest in _READ_BY if server >= least), 0)


def check_target(wire: Wire, version: int) -> dict[str, str]:
    """INFO of a server that takes writes and reads data sets of this version. Raises LucidError."""
    info = server_info(wire)
    if info.get("cluster_enabled") == "1" or info.get("redis_mode") == "cluster":
        raise NotSupportedError(cluster_sentence(wire.subject))
    if info.get("loading") == "1":
        raise StoreUnavailableError(loading_sentence(wire.subject))
    if info.get("role") == "slave":
        raise StoreUnavailableError(f"{wire.subject} {PASSING['READONLY']}.")
    shown = info.get("redis_version", "")
    if dataset_version(shown) < version:
        raise NotSupportedError(
            f"{wire.subject} has version {shown} and cannot read this backup, which a newer Redis wrote; "
            "restore into that version or a later one."
        )
    Room(wire, info).refuse_full()
    return info


def refuse_longer(wire: Wire, info: Mapping[str, str], largest: int) -> None:
    """Raises NotSupportedError for a payload of so many bytes that the server takes no command of."""
    if largest + READ_BYTES <= _LEAST_MOST_BYTES:
        return
    for name, default in MOST_BYTES.items():
        told = _limit(wire, name, info)
        most = default if told is None else told
        if not most or largest <= (most if name == "proto-max-bulk-len" else most - READ_BYTES):
            continue
        guessed = "" if told is not None else " (the default, as the login may not use CONFIG GET)"
        raise NotSupportedError(
            f"{wire.subject} takes arguments up to {for_people(most)}{guessed}, and the largest chosen value"
            f" has {for_people(largest)}; raise {name} there, or leave its key out by redis.excludePatterns."
            " Nothing was written to Redis."
        )


def _limit(wire: Wire, name: str, info: Mapping[str, str]) -> int | None:
    """None where the login may not read it, or the server does not have it. A percentage is one of maxmemory."""
    wire.send([("CONFIG", "GET", name)])
    reply = wire.reply()
    shown = reply[1] if isinstance(reply, list) and len(reply) == 2 else None
    found = _LIMIT.fullmatch(shown) if isinstance(shown, bytes) else None
    if found is None:
        return None
    return number(info, "maxmemory") * int(found[1]) // 100 if found[2] else int(found[1])
