"""The kinds Backup, Restore and BackupSchedule, wired: they share the workers and the claims of dumps."""

from __future__ import annotations

from collections.abc import Callable, Collection

from lucid_storage.app.stores import restores
from lucid_storage.kinds.backup.kind import BackupKind
from lucid_storage.kinds.backup.snapshots import BackupSnapshots
from lucid_storage.kinds.backup.volume_facts import BackupVolumes
from lucid_storage.kinds.backupschedule.kind import ScheduleCycle
from lucid_storage.kinds.cache import ResourceCache
from lucid_storage.kinds.connections import Connections
from lucid_storage.kinds.engine import Driver
from lucid_storage.kinds.oneshot import OneShotCycle
from lucid_storage.kinds.protection import Protector
from lucid_storage.kinds.restore.kind import RestoreKind
from lucid_storage.kinds.restore.sweep import OldSweep
from lucid_storage.kinds.restore.volume_targets import RestoreVolumes
from lucid_storage.kinds.services import Services
from lucid_storage.kinds.workers.claims import DumpClaims
from lucid_storage.kinds.workers.launch import Workers
from lucid_storage.kinds.workers.standing import StandingWorkers
from lucid_storage.kube.claims import Claims
from lucid_storage.kube.client import Kube
from lucid_storage.kube.deployments import Deployments
from lucid_storage.kube.jobs import Jobs
from lucid_storage.kube.objects import Objects
from lucid_storage.kube.resources import Resource
from lucid_storage.kube.snapshots import Snapshots
from lucid_storage.models.settings import Settings


def backup_cycles(
    kube: Kube,
    services: Services,
    connections: Connections,
    workers: Workers,
    protector: Protector,
    cache: ResourceCache,
    settings: Settings,
    *,
    guard: Callable[[], None],
    wake: Callable[[Callable[[Resource], bool]], None],
) -> dict[str, Driver]:
    """`guard` is asked before every write; `wake` has the engine look at every resource that is chosen."""

    def others() -> list[Resource]:
        return [*cache.of_kind("backups"), *cache.of_kind("restores")]

    def schedules() -> list[Resource]:
        return cache.of_kind("backupschedules")

    dumps, claims = DumpClaims(), Claims(kube)
    snapshots = BackupSnapshots(Snapshots(kube))
    backup = BackupKind(
        connections,
        workers,
        dumps,
        settings,
        BackupVolumes(claims, Snapshots(kube), cache.get),
        snapshots,
        others=others,
        schedules=schedules,
        wake=wake,
    )
    restore = RestoreKind(
        connections,
        workers,
        dumps,
        settings,
        restores(guard),
        protector,
        RestoreVolumes(claims, cache.get),
        others=others,
        schedules=schedules,
        find_backup=cache.get,
        wake=wake,
    )
    standing = StandingWorkers(workers, Deployments(kube), Jobs(kube))
    return {
        "backups": OneShotCycle(backup, services),
        "restores": OneShotCycle(restore, services),
        "backupschedules": ScheduleCycle(
            services, Objects(kube), workers, standing, settings, snapshots, known=cache.of_kind
        ),
    }


def old_sweep(
    kube: Kube,
    connections: Connections,
    workers: Workers,
    cache: ResourceCache,
    settings: Settings,
    *,
    guard: Callable[[], None],
    namespaces: Collection[str],
) -> OldSweep:
    """What Restores of these namespaces (all, where none is named) replaced that are gone."""
    return OldSweep(
        connections,
        restores(guard),
        settings,
        Objects(kube),
        cluster=workers.cluster,
        find=cache.by_uid,
        namespaces=namespaces,
    )
