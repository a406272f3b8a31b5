"""A cluster in memory that lets the operator die, or its router go away, at the n-th write."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from sharded_builder import ID_INDEX, balancer, index, server

from lucid_storage.errors import LucidError, Reason, ServerRefusedError
from lucid_storage.stores.mongodb.sharding.bounds import same_range
from lucid_storage.stores.mongodb.sharding.types import (
    Balance,
    BalancerState,
    KeyGaps,
    KeyRange,
    KeySample,
    Occupancy,
    Resharding,
    ReshardPhase,
    ShardChunks,
    ShardCluster,
    ShardedState,
    ShardFigures,
    ShardInfo,
    ShardKey,
    ZoneState,
)
from lucid_storage.stores.mongodb.types import (
    CollectionOptions,
    CollectionState,
    IndexState,
    ServerInfo,
)

RESHARDING_LOOKS = 3
"""Looks until a resharding of this cluster is over."""


class KilledError(Exception):
    """The operator is no more."""


@dataclass
class ClusterDouble:
    """Implements what the kind asks of MongoPort and ShardingPort. Every write is counted in `writes`."""

    keys: tuple[ShardKey, ...] = ()
    """Keys that an index carries."""
    documents: int = 20
    lagging: bool = False
    """Secondaries have not heard of any document yet."""
    die_at: int | None = None
    """The write, from 0 on, at which it happens."""
    before: bool = True
    """Whether it happens before the server heard of that write, or after it was done."""
    end: Callable[[], Exception] = KilledError
    """What happens."""
    meanwhile: Callable[[str], None] = lambda what: None
    """Somebody else acts after the look and right before a write."""
    reshard_error: LucidError | None = None
    writes: list[str] = field(default_factory=list)
    uuid: str | None = None
    """Of the collection, sharded or not; None where there is none."""
    state: ShardedState | None = None
    members: dict[str, set[str]] = field(default_factory=dict)
    ranges: list[tuple[str, KeyRange]] = field(default_factory=list)
    running: Resharding | None = None
    looks_left: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether no resharding runs any more."""
    aborted: bool = False

    @property
    def sharding(self) -> "ClusterDouble":
        return self

    @contextmanager
    def _write(self, what: str, uuid: str | None = None) -> Iterator[None]:
        """Counts a write, at which the operator may end; refuses another collection than `uuid`."""
        self.meanwhile(what)
        ending = len(self.writes) == self.die_at
        if ending:
            self.die_at = None
        if ending and self.before:
            raise self.end()
        if uuid is not None and uuid != self.uuid:
            raise _not_now("the collection was made anew in between", Reason.COLLECTION_NOT_READY)
        self.writes.append(what)
        yield
        if ending:
            raise self.end()

    def make_anew(self, uuid: str = "d" * 32) -> None:
        """Somebody drops the collection, and makes another one that is not sharded."""
        self.uuid, self.state = uuid, None

    def abort(self) -> None:
        """Somebody aborts the resharding that runs."""
        self.running, self.aborted = None, True
        self.ended.set()

    # What MongoPort tells

    async def info(self) -> ServerInfo:
        return server()

    async def collection(self, database: str, name: str) -> CollectionState | None:
        if self.uuid is None:
            return None
        return CollectionState(database, name, "collection", self.uuid, CollectionOptions())

    async def indexes(self, database: str, name: str) -> tuple[IndexState, ...] | None:
        return (ID_INDEX, *(index(*key) for key in self.keys)) if self.uuid is not None else None

    # What ShardingPort tells

    async def cluster(self) -> ShardCluster:
        shards = tuple(
            ShardInfo(name, tuple(zone for zone, names in self.members.items() if name in names))
            for name in ("s0", "s1")
        )
        return ShardCluster("cluster-1", (6, 0, 5), shards)

    async def sharded(self, database: str, name: str) -> ShardedState | None:
        return replace(self.state, resharding=self.running is not None) if self.state is not None else None

    async def chunks(self, state: ShardedState) -> tuple[ShardChunks, ...]:
        return (ShardChunks("s0", 2), ShardChunks("s1", 2))

    async def figures(self, *_: object) -> tuple[ShardFigures, ...]:
        return (ShardFigures("s0", 10, 100), ShardFigures("s1", 10, 100))

    async def balance(self, *_: object) -> Balance:
        return Balance(compliant=True)

    async def balancer(self) -> BalancerState:
        return balancer()

    async def zones(self, *_: object) -> tuple[ZoneState, ...]:
        names = sorted({zone for zone, _ in self.ranges})
        return tuple(
            ZoneState(name, tuple(self.members.get(name, ())), tuple(r for z, r in self.ranges if z == name))
            for name in names
        )

    async def zone_users(self, *_: object) -> dict[str, frozenset[str]]:
        return {zone: frozenset({"shop.orders"}) for zone, _ in self.ranges}

    async def resharding(self, *_: object) -> Resharding | None:
        if self.running is not None and self.running.phase is not ReshardPhase.COMMITTING:
            self.looks_left -= 1
            if self.looks_left <= 0:
                self._end_resharding()
        return self.running

    async def occupancy(self, *_: object) -> Occupancy:
        return Occupancy(empty=not self.documents, documents=self.documents)

    async def key_gaps(self, *_: object) -> KeyGaps:
        return KeyGaps(0 if self.lagging else self.documents, 0, 0, complete=True)

    async def key_sample(self, *_: object) -> KeySample | None:
        drawn = 0 if self.lagging else self.documents
        return KeySample(drawn, drawn, min(1, drawn), 0, drawn, 0.0)

    # What ShardingPort does

    async def enable_sharding(self, database: str) -> None:
        with self._write("enable"):
            pass

    async def shard(
        self, database: str, name: str, key: ShardKey, *, uuid: str | None, empty: bool, **options: Any
    ) -> None:
        with self._write("shard", uuid):
            if empty and self.uuid is not None and self.documents:
                self.writes.pop()
                raise _not_now("documents came in between", Reason.PROGRESSING)
            self.uuid = self.uuid or "a" * 32
            self.state = ShardedState(database, name, self.uuid, key, unique=False, balancing=True)

    async def refine(self, database: str, name: str, key: ShardKey, *, uuid: str | None) -> None:
        with self._write("refine", uuid):
            assert self.state is not None
            self.state = replace(self.state, key=key)

    async def reshard(
        self, database: str, name: str, key: ShardKey, *, uuid: str | None, **options: Any
    ) -> None:
        assert self.running is None, "it was begun twice"
        with self._write("reshard", uuid):
            if self.reshard_error is not None:
                raise self.reshard_error
            self.running = Resharding(ReshardPhase.COPYING, key, percent=10)
            self.ended.clear()
            self.looks_left = RESHARDING_LOOKS
        await self.ended.wait()
        if self.aborted:
            raise ServerRefusedError("cannot reshard: it was aborted.")

    def _end_resharding(self) -> None:
        assert self.state is not None
        assert self.running is not None
        assert self.running.key is not None
        self.uuid = "b" * 32
        self.state = replace(self.state, key=self.running.key, uuid=self.uuid)
        self.running = None
        self.ended.set()

    async def set_balancing(self, database: str, name: str, *, enabled: bool) -> None:
        with self._write("balancing"):
            assert self.state is not None
            self.state = replace(self.state, balancing=enabled)

    async def add_shard_to_zone(self, shard: str, zone: str) -> None:
        with self._write("add"):
            self.members.setdefault(zone, set()).add(shard)

    async def remove_shard_from_zone(self, shard: str, zone: str) -> None:
        with self._write("remove"):
            if self.members.get(zone) == {shard} and any(z == zone for z, _ in self.ranges):
                raise ServerRefusedError("the last shard of a zone with ranges")
            self.members.get(zone, set()).discard(shard)

    async def assign_range(self, database: str, name: str, bounds: KeyRange, zone: str) -> None:
        if not self.members.get(zone):
            raise ServerRefusedError("the zone has no shard")
        with self._write("assign"):
            self.ranges.append((zone, bounds))

    async def clear_range(self, database: str, name: str, bounds: KeyRange) -> None:
        with self._write("clear"):
            self.ranges = [(zone, known) for zone, known in self.ranges if not same_range(known, bounds)]


def _not_now(said: str, reason: Reason) -> ServerRefusedError:
    error = ServerRefusedError(said, reason=reason)
    error.stalled = False
    return error
