"""The kind Volume, wired, with what goes round beside its looks: figures, readers of figures, checks of content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lucid_storage.kinds.cache import ResourceCache
from lucid_storage.kinds.contract import Notice
from lucid_storage.kinds.metrics import Metrics
from lucid_storage.kinds.volume.book import UsageBook
from lucid_storage.kinds.volume.checking import ContentChecks
from lucid_storage.kinds.volume.kind import VolumeKind
from lucid_storage.kinds.volume.migration.hands import VolumeMigrations
from lucid_storage.kinds.volume.reading import UsageReading
from lucid_storage.kinds.volume.rounds import UsageRounds
from lucid_storage.kinds.volume.surroundings import Surroundings
from lucid_storage.kinds.workers.launch import Workers
from lucid_storage.kube.claims import Claims
from lucid_storage.kube.client import Kube
from lucid_storage.kube.events import Event, EventRecorder
from lucid_storage.kube.kubelet import Kubelets, StatsTokens
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.kube.volumes import Volumes
from lucid_storage.models.kinds import KINDS
from lucid_storage.models.settings import Settings


@dataclass(frozen=True, slots=True)
class VolumeParts:
    """The kind, and what runs beside the engine."""

    kind: VolumeKind
    checks: ContentChecks
    reading: UsageReading
    rounds: UsageRounds


def volume_parts(
    kube: Kube,
    workers: Workers,
    cache: ResourceCache,
    settings: Settings,
    metrics: Metrics,
    events: EventRecorder,
    touch: Callable[[Key], None],
) -> VolumeParts:
    """`touch` has the engine look at one resource."""

    def known() -> list[Resource]:
        return cache.of_kind("volumes")

    def tell(resource: Resource, notice: Notice) -> None:
        kind = KINDS["Volume"].kind
        events.emit(Event(resource.key, kind, resource.uid, notice.reason, notice.message, notice.warning))

    def nodes_changed(names: frozenset[str]) -> None:
        for key in kind.touched_by(names):
            touch(key)

    claims, usage = Claims(kube), UsageBook()
    surroundings = Surroundings(claims)
    metrics.volumes.usage = usage.get
    migrations = VolumeMigrations(
        claims, Volumes(kube), workers, settings, namespace_terminating=kube.namespace_terminating
    )
    kind = VolumeKind(claims, surroundings, usage, settings, metrics=metrics.volumes, migrations=migrations)
    return VolumeParts(
        kind=kind,
        checks=ContentChecks(claims, workers, usage, settings, volumes=known, touch=touch),
        reading=UsageReading(
            claims, surroundings, workers, usage, settings, volumes=known, touch=touch, tell=tell
        ),
        rounds=UsageRounds(
            claims,
            _kubelets(kube, settings),
            usage,
            settings,
            volumes=known,
            touch=touch,
            nodes_changed=nodes_changed,
            failures=metrics.kubelet_failures.inc,
        ),
    )


def _kubelets(kube: Kube, settings: Settings) -> Kubelets | None:
    """Nobody is asked without a certificate authority to check, or with another token than that for statistics."""
    if not settings.kubelet_ca or not settings.kubelet_service_account:
        return None
    tokens = StatsTokens(kube, settings.operator_namespace, settings.kubelet_service_account)
    return Kubelets(tokens, settings.kubelet_ca)
