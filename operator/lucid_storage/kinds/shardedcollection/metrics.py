"""Prometheus metrics of sharded collections: what lies on each shard, and whether it is balanced.

No label holds the name of a database or a collection: the resource and its namespace name them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lucid_storage.kinds.shardedcollection.spread import Spread, balanced
from lucid_storage.kube.resources import Key
from lucid_storage.stores.mongodb.sharding.types import ShardedState

LABELS = ("resource_namespace", "sharded_collection")
"""Not `namespace`: Prometheus gives that name to the namespace of the operator."""


@dataclass(frozen=True, slots=True)
class _Figures:
    balanced: str
    spread: Spread
    resharding: bool
    backup_needed: bool


class ShardMetrics(Collector):
    """Series of sharded collections, made when Prometheus asks. What is gone leaves none behind."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._known: dict[Key, _Figures] = {}
        registry.register(self)

    def tell(self, key: Key, state: ShardedState, spread: Spread, *, backup_needed: bool = False) -> None:
        """What was seen now; documents and bytes stay from the last time they were asked for."""
        before = self._known.get(key)
        if spread.figures is None and before is not None:
            spread = replace(spread, figures=before.spread.figures)
        word = balanced(state, spread.balance, spread.balancer)
        self._known[key] = _Figures(word, spread, state.resharding, backup_needed)

    def forget(self, key: Key) -> None:
        """The resource is gone, or its collection is not sharded."""
        self._known.pop(key, None)

    def collect(self) -> Iterator[Metric]:
        """All series."""
        for name, text, values in self._by_shard():
            family = GaugeMetricFamily(f"lucid_sharded_collection_{name}", text, labels=(*LABELS, "shard"))
            for key, known in self._known.items():
                for shard, value in values(known.spread):
                    family.add_metric([key.namespace, key.name, shard], float(value))
            yield family
        word = GaugeMetricFamily(
            "lucid_sharded_collection_balanced",
            "Whether the balancer has no work left; absent where nobody balances it.",
            labels=LABELS,
        )
        for key, known in self._known.items():
            if known.balanced != "Off":
                word.add_metric([key.namespace, key.name], float(known.balanced == "True"))
        yield word
        for name, text, figure in _VALUES:
            family = GaugeMetricFamily(f"lucid_sharded_collection_{name}", text, labels=LABELS)
            for key, known in self._known.items():
                family.add_metric([key.namespace, key.name], float(figure(known)))
            yield family

    def _by_shard(self) -> list[tuple[str, str, Callable[[Spread], list[tuple[str, int]]]]]:
        return [
            ("chunks", "Chunks on a shard.", lambda s: [(c.shard, c.chunks) for c in s.chunks]),
            (
                "jumbo_chunks",
                "Chunks on a shard that are too big to be moved.",
                lambda s: [(c.shard, c.jumbo) for c in s.chunks],
            ),
            (
                "documents",
                "Documents on a shard, as last asked for.",
                lambda s: [(f.shard, f.documents) for f in s.figures or () if f.documents is not None],
            ),
            (
                "size_bytes",
                "Bytes of the documents on a shard, as last asked for.",
                lambda s: [(f.shard, f.size_bytes) for f in s.figures or ()],
            ),
        ]


_VALUES: tuple[tuple[str, str, Callable[[_Figures], int]], ...] = (
    ("resharding", "Whether the server writes the collection anew by another key.", lambda f: f.resharding),
    (
        "backup_needed",
        "Whether the shard key changed and no backup is known that began later.",
        lambda f: f.backup_needed,
    ),
    (
        "balancer_enabled",
        "Whether the balancer of its deployment is on.",
        lambda f: f.spread.balancer.enabled,
    ),
    (
        "balancer_running",
        "Whether the balancer of its deployment was in a round at the last look.",
        lambda f: f.spread.balancer.running,
    ),
    (
        "balancer_rounds",
        "Rounds that the balancer of its deployment has taken since its config server was elected.",
        lambda f: f.spread.balancer.rounds,
    ),
)
