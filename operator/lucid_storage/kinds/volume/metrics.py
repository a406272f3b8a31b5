"""Prometheus series of volumes, made when they are asked for: figures are live, and what is gone leaves none behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lucid_storage.kinds.volume.observed import Figures
from lucid_storage.kube.resources import Key
from lucid_storage.models.volume_check import ContentCheck

LABELS = ("resource_namespace", "volume")
"""Not `namespace`: Prometheus gives that name to the namespace of the operator."""


@dataclass(frozen=True, slots=True)
class VolumeFigures:
    """Where a volume stands."""

    bound: bool
    requested: int | None
    warning_percent: int
    critical_percent: int
    full_at: datetime | None
    check: ContentCheck | None = None
    """The last one of the content."""
    check_failed: bool = False
    """The one that is asked for has no result."""


class VolumeMetrics(Collector):
    """Series of all Volumes. `usage` gives the newest figures of a claim, by namespace and name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._known: dict[Key, VolumeFigures] = {}
        self.usage: Callable[[tuple[str, str]], Figures | None] = lambda claim: None
        registry.register(self)

    def tell(self, key: Key, figures: VolumeFigures) -> None:
        """What is known of a Volume now."""
        self._known[key] = figures

    def forget(self, key: Key) -> None:
        """The Volume is gone."""
        self._known.pop(key, None)

    def collect(self) -> Iterator[Metric]:
        """All series; a family without any is told too, for those who list the names."""
        rows = [
            (key, known, self.usage((key.namespace, key.name))) for key, known in list(self._known.items())
        ]
        for name, text, value in _FAMILIES:
            family = GaugeMetricFamily(f"lucid_volume_{name}", text, labels=LABELS)
            for key, known, used in rows:
                number = value(known, used)
                if number is not None:
                    family.add_metric([key.namespace, key.name], float(number))
            yield family


_Value = Callable[[VolumeFigures, Figures | None], float | None]

_FAMILIES: tuple[tuple[str, str, _Value], ...] = (
    ("bound", "Whether the claim has its volume.", lambda v, f: v.bound),
    ("requested_bytes", "Size that the claim asks for.", lambda v, f: v.requested),
    ("capacity_bytes", "Size of the file system.", lambda v, f: f.capacity if f else None),
    ("used_bytes", "Bytes in use.", lambda v, f: f.used if f else None),
    ("used_ratio", "Part in use, as df counts; 1 is full.", lambda v, f: f.percent / 100 if f else None),
    (
        "inodes_used_ratio",
        "Part of the inodes in use.",
        lambda v, f: f.inode_percent / 100 if f and f.inode_percent is not None else None,
    ),
    ("warning_ratio", "Where UsageWarning begins.", lambda v, f: v.warning_percent / 100),
    ("critical_ratio", "Where UsageCritical begins.", lambda v, f: v.critical_percent / 100),
    (
        "full_timestamp_seconds",
        "When it will be full if it goes on growing like this.",
        lambda v, f: v.full_at.timestamp() if v.full_at else None,
    ),
    (
        "content_intact",
        "Whether the last check found no file that rotted or cannot be read.",
        lambda v, f: v.check.intact if v.check else None,
    ),
    (
        "content_damaged_files",
        "Files that rotted or cannot be read.",
        lambda v, f: v.check.corrupted + v.check.unreadable if v.check else None,
    ),
    (
        "content_checked_timestamp_seconds",
        "When the content was last checked.",
        lambda v, f: v.check.at.timestamp() if v.check else None,
    ),
    ("content_check_failed", "Whether a check that is asked for has no result.", lambda v, f: v.check_failed),
)
