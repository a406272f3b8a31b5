"""Prometheus metrics of the operator. No label holds the name of a database, a collection or a key."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from lucid_storage.kinds.backup_metrics import OutcomeMetrics, ScheduleMetrics
from lucid_storage.kinds.shardedcollection.metrics import ShardMetrics
from lucid_storage.kinds.volume.metrics import VolumeMetrics


class Metrics:
    """All metrics in one registry of their own, so that a test can have several."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.outcomes = OutcomeMetrics(self.registry)
        self.schedules = ScheduleMetrics(self.registry)
        self.shards = ShardMetrics(self.registry)
        self.volumes = VolumeMetrics(self.registry)
        self.reconciles = Counter(
            "lucid_reconciles_total", "Looks at a resource.", ["kind", "result"], registry=self.registry
        )
        self.reconcile_seconds = Histogram(
            "lucid_reconcile_seconds",
            "Duration of one look.",
            ["kind"],
            buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60),
            registry=self.registry,
        )
        self.actions = Counter(
            "lucid_actions_total", "Changes made in a store.", ["kind", "action"], registry=self.registry
        )
        self.corrections = Counter(
            "lucid_drift_corrections_total", "Drifts corrected.", ["kind"], registry=self.registry
        )
        self.status_writes = Counter(
            "lucid_status_writes_total", "Writes of a status to the API server.", registry=self.registry
        )
        self.let_go = Counter(
            "lucid_deletions_let_go_total",
            "Resources in a terminating namespace let go although their data could not be dropped.",
            ["kind"],
            registry=self.registry,
        )
        self.ready = Gauge(
            "lucid_resources", "Resources by state.", ["kind", "ready"], registry=self.registry
        )
        self.queue = Gauge("lucid_queue_length", "Resources that wait for a look.", registry=self.registry)
        self.store_up = Gauge(
            "lucid_store_up", "Whether a store answers.", ["engine", "credentials"], registry=self.registry
        )
        self.stream_up = Gauge(
            "lucid_change_stream_up",
            "Whether drift is seen at once (1) or by sweeps only (0).",
            ["credentials"],
            registry=self.registry,
        )
        self.watch_missed = Counter(
            "lucid_watch_missed_total",
            "Changes found by comparison that the watch had not told.",
            ["kind"],
            registry=self.registry,
        )
        self.kubelet_failures = Counter(
            "lucid_kubelet_failures_total",
            "Questions to kubelets about the use of volumes that gave nothing.",
            registry=self.registry,
        )
        self.rest_seconds = Histogram(
            "lucid_rest_request_seconds",
            "Duration of a REST request.",
            ["method", "route", "status"],
            buckets=(0.005, 0.01, 0.05, 0.25, 1, 5),
            registry=self.registry,
        )
        self.leading = Gauge("lucid_leader", "Whether this process leads.", registry=self.registry)
