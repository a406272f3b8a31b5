"""Everything that runs only while this process leads."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping

from lucid_storage.app.backups import backup_cycles, old_sweep
from lucid_storage.app.counts import counting
from lucid_storage.app.health import Check
from lucid_storage.app.sharded import sharded_cycle
from lucid_storage.app.stores import store_engines
from lucid_storage.app.volumes import volume_parts
from lucid_storage.handlers.watch import Watch
from lucid_storage.kinds.backup.snapshots import SnapshotSweep
from lucid_storage.kinds.backupschedule import slicing
from lucid_storage.kinds.cache import ResourceCache
from lucid_storage.kinds.collection.kind import CollectionKind
from lucid_storage.kinds.connections import Connections, Deployment, Port, label_of
from lucid_storage.kinds.cycle import Cycle
from lucid_storage.kinds.engine import Driver, Engine
from lucid_storage.kinds.index import IndexKind
from lucid_storage.kinds.index_elasticsearch.kind import ElasticIndexKind
from lucid_storage.kinds.index_mongodb.builds import IndexBuilds
from lucid_storage.kinds.index_mongodb.kind import MongoIndexKind
from lucid_storage.kinds.longcalls import LongCalls
from lucid_storage.kinds.metrics import Metrics
from lucid_storage.kinds.oneshot import OneShotCycle
from lucid_storage.kinds.protection import Protector
from lucid_storage.kinds.queue import WorkQueue
from lucid_storage.kinds.restore.swapping import swapping
from lucid_storage.kinds.resync import Resync
from lucid_storage.kinds.scanner import KeySpaceScanner
from lucid_storage.kinds.services import Services
from lucid_storage.kinds.streams import DdlStreams
from lucid_storage.kinds.tasks import first_of
from lucid_storage.kinds.workers.launch import Workers
from lucid_storage.kinds.workers.standing import StandingSweep
from lucid_storage.kinds.workers.sweep import WorkerSweep
from lucid_storage.kube.client import Kube, KubeApiError
from lucid_storage.kube.deployments import Deployments
from lucid_storage.kube.events import EventRecorder
from lucid_storage.kube.finalizers import Finalizers
from lucid_storage.kube.jobs import Jobs
from lucid_storage.kube.objects import Objects
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.kube.snapshots import Snapshots
from lucid_storage.kube.status import StatusWriter
from lucid_storage.models.settings import Settings
from lucid_storage.stores.endpoints import S3_ENDPOINT, check_url
from lucid_storage.stores.mongodb.types import DdlEvent

logger = logging.getLogger(__name__)

FIRST_LIST_SECONDS = 2.0


class Leading:
    """The object graph of a leader. `guard` is asked before every write; `on_watching` is called when kopf has begun,
    which by then has put itself in the place of the process's signal handlers.
    """

    def __init__(
        self,
        settings: Settings,
        kube: Kube,
        guard: Callable[[], None],
        metrics: Metrics,
        on_watching: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._namespaces = [n.strip() for n in settings.watch_namespaces.split(",") if n.strip()]
        self._cache = ResourceCache()
        self._writer = StatusWriter(kube, on_write=metrics.status_writes.inc)
        self._events = EventRecorder(kube)
        stores = store_engines(settings, guard)
        self._connections = Connections(
            settings,
            kube.secret,
            mongodb=stores.mongodb,
            redis=stores.redis,
            elasticsearch=stores.elasticsearch,
            on_change=self._store_changed,
            on_closed=self._store_closed,
        )
        self._streams = DdlStreams(
            self._connections, metrics, on_event=self._ddl, on_open=self._look_at_users
        )
        self._scanner = KeySpaceScanner(
            self._connections,
            lambda key: self.engine.touch(key),
            settings.cache_scan_seconds,
            settled=lambda: self.engine.settled,
        )
        self._builds = IndexBuilds(lambda key: self.engine.touch_around(key))
        self._shard_changes = LongCalls(lambda key: self.engine.touch_around(key))
        jobs = Jobs(kube)
        self._workers = Workers(jobs, kube.secret, settings, self._check_s3)
        self._sweep = WorkerSweep(jobs, self._job_namespaces(), self._cache.by_uid)
        self._snapshot_sweep = SnapshotSweep(Snapshots(kube), self._job_namespaces(), self._cache.by_uid)
        self._old_sweep = old_sweep(
            kube,
            self._connections,
            self._workers,
            self._cache,
            settings,
            guard=guard,
            namespaces=self._namespaces,
        )
        self._standing_sweep = StandingSweep(
            Deployments(kube),
            self._job_namespaces(),
            self._cache.by_uid,
            home=lambda schedule: slicing.home(schedule, settings),
            operator_namespace=settings.operator_namespace,
        )
        self.engine = Engine(
            self._cycles(kube, guard),
            self._cache,
            WorkQueue(),
            metrics,
            default_database=settings.mongodb_database,
            workers=settings.workers,
            on_gone=self._clean_up,
        )
        self.resync = Resync(kube, self.engine, metrics, self._namespaces)
        self._watch = Watch(
            self.engine.plurals,
            seen=self.engine.seen,
            gone=self.engine.gone,
            on_claim=lambda namespace, name: self.engine.touch(Key("volumes", namespace, name)),
            namespaces=self._namespaces,
            on_started=on_watching,
        )

    async def run(self) -> None:
        """Lead until stopped. Raises what the first part that fails raises."""
        await self._first_list()
        jobs = [
            self.engine.run(),
            self._events.run(),
            self.resync.run(),
            counting(self.engine, self._cache, self._metrics),
            self._watch.run(),
            self._sweep.run(),
            self._standing_sweep.run(),
            self._snapshot_sweep.run(),
            self._old_sweep.run(),
            self._volumes.rounds.run(),
            self._volumes.reading.run(),
            self._volumes.checks.run(),
        ]
        await first_of(jobs)

    async def _first_list(self) -> None:
        while True:
            try:
                return await self.resync.list_all()
            except KubeApiError as error:
                hint = " Install the CustomResourceDefinitions first." if error.status == 404 else ""
                logger.warning("the resources cannot be listed and are asked for again: %s.%s", error, hint)
            await asyncio.sleep(FIRST_LIST_SECONDS)

    async def end(self) -> None:
        """End what is still at work, so that nothing more is written. Builds go on at the server."""
        await self._streams.close()
        await self._scanner.close()
        await self._builds.close()
        await self._shard_changes.close()

    async def close(self) -> None:
        """Let everything go. Idempotent."""
        await self.end()
        await self._connections.close()

    def checks(self) -> Mapping[str, Check]:
        """What /healthz and /readyz tell."""
        resync = self.resync
        checks = {
            "watch": Check(
                not resync.watch_dead,
                "the watch tells nothing any more" if resync.watch_dead else "the watch tells all changes",
                fatal=True,
            ),
            "apiserver": Check(
                resync.reachable, "answers" if resync.reachable else "cannot be reached", needed=True
            ),
            "firstLook": Check(
                resync.listed and self.engine.settled, "every resource was looked at once", needed=True
            ),
        }
        for deployment in self._connections.deployments:
            name = f"{deployment.engine.name} ({deployment.label})"
            down = deployment.down
            checks[name] = Check(down is None, "answers" if down is None else down.message)
        return checks

    def _cycles(self, kube: Kube, guard: Callable[[], None]) -> dict[str, Driver]:
        protector = Protector(Objects(kube), lambda: self._cache.of_kind("backupschedules"))
        services = Services(
            status=self._writer,
            events=self._events,
            finalizers=Finalizers(kube),
            metrics=self._metrics,
            namespace_terminating=kube.namespace_terminating,
            peers=self._peers,
            others=self._cache.others,
            touch_dependents=lambda key, target: self.engine.touch_dependents(key, target),
            remember=self._cache.wrote,
            forbid_drops=self._settings.forbid_drops,
            swapping=lambda identity, database: swapping(self._cache.of_kind("restores"), identity, database),
            protector=protector,
        )
        index = IndexKind(
            MongoIndexKind(self._connections, self._builds, self._sweep_seconds),
            ElasticIndexKind(self._connections, self._sweep_seconds),
        )
        collection = CollectionKind(self._connections, self._scanner, self._sweep_seconds)
        backups = backup_cycles(
            kube,
            services,
            self._connections,
            self._workers,
            protector,
            self._cache,
            self._settings,
            guard=guard,
            wake=lambda chosen: self.engine.touch_where(chosen),
        )
        self._volumes = volume_parts(
            kube,
            self._workers,
            self._cache,
            self._settings,
            self._metrics,
            self._events,
            touch=lambda key: self.engine.touch(key),
        )
        return {
            "collections": Cycle(collection, services),
            "shardedcollections": sharded_cycle(
                services,
                self._connections,
                self._shard_changes,
                self._cache,
                self._settings,
                lambda resource, secret: self._jittered(self._settings.fallback_sweep_seconds),
            ),
            "indexes": Cycle(index, services),
            **backups,
            "volumes": OneShotCycle(self._volumes.kind, services, ends=False),
        }

    def _peers(self, resource: Resource, target: str) -> list[Resource]:
        self._cache.file(resource.key, target)
        return self._cache.peers(resource, target)

    def _job_namespaces(self) -> list[str | None]:
        """Where our Jobs may be: beside the resources, and in the operator's own namespace."""
        if not self._namespaces:
            return [None]
        return [*sorted({*self._namespaces, self._settings.operator_namespace})]

    async def _check_s3(self, endpoint: str) -> None:
        schemes = frozenset({"http", "https"})
        loopback = self._settings.allow_loopback
        await check_url(endpoint, schemes, "it", allow_loopback=loopback, named=S3_ENDPOINT)

    def _sweep_seconds(self, resource: Resource, secret: str | None) -> float:
        label = label_of(resource.key.namespace, secret)
        uses_mongodb = resource.spec.get("engine") != "elasticsearch"
        fast = uses_mongodb and not self._streams.is_open(label)
        return self._jittered(self._settings.fallback_sweep_seconds if fast else self._settings.sweep_seconds)

    @staticmethod
    def _jittered(seconds: float) -> float:
        return seconds * random.uniform(0.8, 1.2)  # noqa: S311

    def _store_changed(self, deployment: Deployment[Port]) -> None:
        self._metrics.store_up.labels(deployment.engine.name, deployment.label).set(deployment.down is None)
        self._streams.ensure(deployment)
        self._look_at_users(deployment.label)

    def _store_closed(self, deployment: Deployment[Port]) -> None:
        self._metrics.store_up.remove(deployment.engine.name, deployment.label)

    def _look_at_users(self, label: str) -> None:
        """Look at the resources that use these credentials: one tenant's flapping store is no work for the others."""
        self.engine.touch_where(lambda r: label_of(r.key.namespace, r.secret) == label)

    def _ddl(self, event: DdlEvent) -> None:
        if event.own:
            return  # the look that made it sees what came of it, and told those who depend on it
        if event.collection is None:
            self.engine.touch_database(event.database)
            return
        self.engine.touch_target(f"{event.database}.{event.collection}")
        if event.to_database is not None and event.to_collection is not None:
            self.engine.touch_target(f"{event.to_database}.{event.to_collection}")

    async def _clean_up(self, key: Key) -> None:
        self._metrics.schedules.forget(key)  # a look that was under way may have told of it
        self._metrics.shards.forget(key)
        await self._builds.forget(key)
        await self._shard_changes.forget(key)
        secrets = {r.secret for r in self._cache.in_namespace(key.namespace) if r.secret is not None}
        await self._connections.keep_only(key.namespace, secrets)
