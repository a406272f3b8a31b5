"""After the replay: indexes on staged collections, then the options that would have hindered loading (rule 2.6).

A TTL index is built as a plain one; it is turned into TTL after the last rename. A server before 5.1 turns none: there
it is built as one that expires nothing for 68 years.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass

from lucid_storage.errors import DuplicateKeysError, Reason
from lucid_storage.stores.mongodb.names import BUCKETS_PREFIX
from lucid_storage.stores.mongodb.restore.catalog import Tracked, public_name
from lucid_storage.stores.mongodb.restore.target import Target

_TTL = "expireAfterSeconds"
_LATEST = 2**31 - 1
"""Seconds: the most that a server takes."""
_NEVER_SENT = frozenset({"ns", "safe", "prepareUnique"})


@dataclass(frozen=True, slots=True)
class Expiry:
    """An expiry that is switched on after the last rename: of one index, or of the collection itself."""

    index: str | None
    seconds: int


def build_indexes(target: Target, tracked: Tracked) -> None:
    """All of them in one scan. Raises DuplicateKeysError for a unique one that the documents do not allow."""
    name = f"{tracked.name[0]}.{public_name(tracked.name[1])}"
    try:
        for collection, specifications in _by_collection(tracked, born=_born(target, tracked)).items():
            target.write(
                tracked.place.database,
                {"createIndexes": collection, "indexes": specifications},
                f"build the indexes of {name}",
                content=True,
            )
    except DuplicateKeysError:
        raise DuplicateKeysError(
            f"The documents of {name} do not allow a unique index of the backup; nothing was swapped. Restore to"
            " another moment.",
            reason=Reason.DUPLICATE_KEYS,
        ) from None


def _born(target: Target, tracked: Tracked) -> frozenset[str | None]:
    """Indexes that must be built with an expiry to have one."""
    expiring = frozenset(expiry.index for expiry in expiries(tracked)) - {None}
    return frozenset() if not expiring or target.turns_into_ttl() else expiring


def _by_collection(tracked: Tracked, born: Set[str | None]) -> dict[str, list[dict[str, object]]]:
    # The dump describes indexes of a time series by its own fields, the oplog by those of its buckets.
    found: dict[str, list[dict[str, object]]] = {}
    for name, index in tracked.indexes.items():
        of_buckets = name in tracked.replayed_indexes
        collection = tracked.place.collection if of_buckets else public_name(tracked.place.collection)
        found.setdefault(collection, []).append(
            {**_explicit(tracked, plain(index)), **({_TTL: _LATEST} if name in born else {})}
        )
    return found


def _explicit(tracked: Tracked, index: dict[str, object]) -> dict[str, object]:
    # A server leaves out the simple collation, which without a word would become the collection's.
    if "collation" in tracked.options and "collation" not in index:
        return {**index, "collation": {"locale": "simple"}}
    return index


def set_options(target: Target, tracked: Tracked) -> None:
    """Validation and images, which loading must not meet. Expiry comes after the swap."""
    later = {key: value for key, value in tracked.later().items() if key != _TTL}
    if later and not tracked.name[1].startswith(BUCKETS_PREFIX):
        target.write(
            tracked.place.database,
            {"collMod": tracked.place.collection, **later},
            f"set the options of {tracked.name[0]}.{tracked.name[1]}",
            content=True,
        )


def expiries(tracked: Tracked) -> tuple[Expiry, ...]:
    """What is to be switched on once everything is swapped."""
    own = tracked.options.get(_TTL)
    found = [Expiry(None, int(own))] if isinstance(own, int | float) else []
    for name, index in tracked.indexes.items():
        seconds = index.get(_TTL)
        if isinstance(seconds, int | float) and _can_expire(index):
            found.append(Expiry(name, _seconds(seconds)))
    return tuple(found)


def _can_expire(index: Mapping[str, object]) -> bool:
    """Servers expire by one plain field only, and switch no other index to it: a text index, and a compound one of an
    old server, can have an expiry that does nothing.
    """
    key = index.get("key")
    return isinstance(key, Mapping) and len(key) == 1 and not next(iter(key)).endswith("$**")


def plain(index: Mapping[str, object]) -> dict[str, object]:
    """A specification without its expiry and what only a server writes."""
    return {key: value for key, value in index.items() if key not in _NEVER_SENT and key != _TTL}


def _seconds(value: float) -> int:
    """Old indexes hold any number; a server takes what fits 32 bits, and NaN as never."""
    if math.isnan(value):
        return _LATEST
    return int(min(max(value, 0), _LATEST))
