"""How the collection is spread, as status and metrics tell it. Pure.

Figures move rarely (see `kinds.figures`), except when the state changes: balanced or not, other shards, balancer
on or off, the first jumbo chunk or none any more. Live figures are metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from lucid_storage.kinds import figures
from lucid_storage.models.shardedcollection import BalancerStatus, ShardedCollectionStatus
from lucid_storage.models.shardedcollection import ShardFigures as ShardStatus
from lucid_storage.stores.mongodb.sharding.types import (
    Balance,
    BalancerState,
    ShardChunks,
    ShardedState,
    ShardFigures,
)

SHARDS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Spread:
    """What lies where. `figures` is None where it was not asked for or could not be read in time."""

    chunks: tuple[ShardChunks, ...]
    balance: Balance
    balancer: BalancerState
    figures: tuple[ShardFigures, ...] | None = None

    @property
    def total(self) -> int:
        return sum(one.chunks for one in self.chunks)

    @property
    def jumbo(self) -> int:
        return sum(one.jumbo for one in self.chunks)


def balanced(state: ShardedState, balance: Balance, balancer: BalancerState) -> str:
    """The BALANCED column: Off where nobody would balance it."""
    if not state.balancing or not balancer.enabled:
        return "Off"
    return "True" if balance.compliant else "False"


def told(
    status: ShardedCollectionStatus, state: ShardedState, spread: Spread, now: datetime
) -> ShardedCollectionStatus:
    """The status with these figures, where they are due or the state changed."""
    word = balanced(state, spread.balance, spread.balancer)
    if not (_changed(status, word, spread) or _due(status, spread, now)):
        return status
    return status.model_copy(
        update={
            "shard_count": len(spread.chunks),
            "chunks": spread.total,
            "jumbo_chunks": spread.jumbo,
            "shards": _shards(spread, status.shards or ()),
            "balanced": word,
            "balancer": BalancerStatus(
                enabled=spread.balancer.enabled,
                running=spread.balancer.running,
                rounds=spread.balancer.rounds,
            ),
            "stats_time": now.replace(microsecond=0),
        }
    )


def message(state: ShardedState, spread: Spread, status: ShardedCollectionStatus) -> str:
    """What is worth saying beside Ready; with the count of jumbo chunks that status has, which moves rarely."""
    if not spread.balancer.enabled and state.balancing:
        return "The deployment's balancer is off, so no chunks are moved."
    if status.jumbo_chunks:
        are = "chunk is" if status.jumbo_chunks == 1 else "chunks are"
        return f"{status.jumbo_chunks} {are} too big to be moved; refine the key so that they can be split."
    if spread.balance.compliant or not state.balancing:
        return ""
    return f"The balancer is moving chunks ({spread.balance.violation or 'not balanced yet'})."


def _changed(status: ShardedCollectionStatus, word: str, spread: Spread) -> bool:
    before = status.balancer
    return (
        status.stats_time is None
        or status.balanced != word
        or status.shard_count != len(spread.chunks)
        or before is None
        or before.enabled != spread.balancer.enabled
        or bool(status.jumbo_chunks) != bool(spread.jumbo)
    )


def _due(status: ShardedCollectionStatus, spread: Spread, now: datetime) -> bool:
    if not figures.due(status.stats_time, now):
        return False
    if figures.moved(status.chunks, spread.total) or figures.moved(status.jumbo_chunks, spread.jumbo):
        return True
    if spread.figures is not None and _rounds_moved(status.balancer, spread.balancer):
        return True
    known = {one.name: one for one in status.shards or ()}
    for one in spread.chunks:
        before = known.get(one.shard)
        if before is None or figures.moved(before.chunks, one.chunks):
            return True
    for figure in spread.figures or ():
        before = known.get(figure.shard)
        if before is None:
            return True
        if figure.documents is not None and figures.moved(before.documents, figure.documents):
            return True
        if figures.moved(before.size_bytes, figure.size_bytes):
            return True
    return False


def _rounds_moved(before: BalancerStatus | None, now: BalancerState) -> bool:
    """Told together with the documents, which they must not keep from being asked for."""
    return before is None or figures.moved(before.rounds, now.rounds)


def _shards(spread: Spread, before: Sequence[ShardStatus]) -> list[ShardStatus]:
    chunks = {one.shard: one for one in spread.chunks}
    if spread.figures is None:
        known = {one.name: (one.documents, one.size_bytes) for one in before}
    else:
        known = {one.shard: (one.documents, one.size_bytes) for one in spread.figures}
    names = sorted(set(chunks) | {name for name, (_, size) in known.items() if size})
    return [
        ShardStatus(
            name=name,
            chunks=chunks[name].chunks if name in chunks else 0,
            jumbo_chunks=chunks[name].jumbo if name in chunks else 0,
            documents=known.get(name, (None, None))[0],
            size_bytes=known.get(name, (None, None))[1],
        )
        for name in names[:SHARDS_SHOWN]
    ]
