"""The operator process: settings become clients, clients become kinds, kinds meet the engine, kopf and REST."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from uuid import uuid4

from lucid_storage.app.ending import Deadline
from lucid_storage.app.health import Check, HealthServer
from lucid_storage.app.leading import Leading
from lucid_storage.app.rest import rest_server
from lucid_storage.errors import LeadershipLostError, RefusedError
from lucid_storage.kinds.metrics import Metrics
from lucid_storage.kinds.tasks import first_of
from lucid_storage.kube.client import Kube, KubeApiError, load_configuration
from lucid_storage.kube.lease import Lease
from lucid_storage.models.settings import Settings
from lucid_storage.restapi.server import RestServer
from lucid_storage.stores.trust import authority, trust

logger = logging.getLogger(__name__)

SWITCH_SECONDS = 0.0001
"""How long the thread of reconciles may keep the interpreter from the REST API's, which needs it several times for an
answer. It costs nothing while no other thread wants to run.
"""
COLLECTOR_THRESHOLDS = (5_000, 20, 100)
"""How many new objects, then how many collections of the younger generation, call for a look for reference cycles. With
Python's usual (700, 10, 10) a create storm has full looks that hold every thread for 40 to 100 ms, the REST API's too.
"""
RECURSION_LIMIT = 40_000
"""The API server takes documents of 10,000 levels. Reading one must not end the watch, which all resources share;
Python's usual limit of 1,000 is far below. Ten thousand levels take about 2 MB of the 8 MB stack.
"""
REST_SECONDS = 5.0
"""How long requests to the REST API that are under way may take when the process ends."""
LEASE_NAME = "lucid-storage-operator"


class Operator:
    """One replica: stands by until it leads, then leads until it is stopped or loses the lease. `on_ending` is called
    when it begins to end, perhaps more than once.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        identity: str | None = None,
        on_ending: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._on_ending = on_ending
        self._identity = identity or f"{socket.gethostname()}_{uuid4().hex[:8]}"
        self._metrics = Metrics()
        self._stop = asyncio.Event()
        self._lease: Lease | None = None
        self._leading: Leading | None = None
        self._rest: RestServer | None = None
        self.health = HealthServer(self._metrics.registry, self._checks)

    def stop(self) -> None:
        """End soon; callable from a signal handler."""
        self._on_ending()
        self._stop.set()

    async def run(self) -> None:
        """Raises LeadershipLostError when the process must end without acting any further."""
        settings = self._settings
        lease_kube = Kube(await load_configuration(), pool_size=2)
        lease = Lease(
            lease_kube,
            namespace=settings.operator_namespace,
            name=LEASE_NAME,
            identity=self._identity,
            duration=settings.lease_seconds,
            renew_deadline=settings.lease_seconds * 2 / 3,
            retry=settings.lease_seconds / 7.5,
        )
        guard: Callable[[], None] = lease.guard if settings.leader_election else lambda: None
        self._lease = lease if settings.leader_election else None
        kube = Kube(await load_configuration(), guard=guard)
        _on_signals(self.stop)
        await self.health.start(settings.health_host, settings.health_port)
        try:
            if settings.rest_enabled:
                self._rest = rest_server(settings, self._metrics)
                if not await self._unless_stopped(asyncio.to_thread(self._rest.start)):
                    return
            if settings.leader_election and not await self._unless_stopped(lease.acquire()):
                return
            await self._lead(kube, lease, guard)
        finally:
            self._on_ending()
            # Another replica need not wait until a silent store is done with.
            await asyncio.gather(_given_back(lease), self._rest_stopped(), self._disconnected())
            await self.health.stop()
            await kube.close()
            await lease_kube.close()

    async def _lead(self, kube: Kube, lease: Lease, guard: Callable[[], None]) -> None:
        self._metrics.leading.set(1)
        leading = self._leading = Leading(
            self._settings, kube, guard, self._metrics, on_watching=lambda: _on_signals(self.stop)
        )
        try:
            jobs: list[Awaitable[object]] = [leading.run(), self._stop.wait()]
            if self._settings.leader_election:
                jobs.append(lease.keep())
            await first_of(self._limited(job) for job in jobs)
        finally:
            self._metrics.leading.set(0)
            await leading.end()

    async def _limited(self, job: Awaitable[object]) -> None:
        """Whichever of the leader's jobs ends first, the others have a limited time from then on."""
        try:
            await job
        finally:
            self._on_ending()

    async def _unless_stopped(self, job: Awaitable[None]) -> bool:
        """Whether the job ended before a stop was asked for."""
        await first_of([job, self._stop.wait()])
        return not self._stop.is_set()

    async def _disconnected(self) -> None:
        if self._leading is not None:
            await self._leading.close()

    async def _rest_stopped(self) -> None:
        if self._rest is not None:
            await asyncio.to_thread(self._rest.stop, REST_SECONDS)

    def _checks(self) -> Mapping[str, Check]:
        checks: dict[str, Check] = {}
        trouble = self._lease.trouble if self._lease is not None else None
        if self._rest is not None:
            healthy = self._rest.healthy()
            checks["rest"] = Check(healthy, "serves" if healthy else "does not answer", needed=True)
        if self._leading is None:
            stands_by = self._lease is not None and self._lease.standing_by
            said = "standing by: another replica leads" if stands_by else "not known yet who leads"
            checks["leader"] = Check(stands_by, said, needed=trouble is None)
        else:
            checks |= {"leader": Check(True, "this replica leads"), **self._leading.checks()}
        if trouble is not None:
            checks["apiserver"] = Check(False, trouble, needed=True)
        return checks


async def _given_back(lease: Lease) -> None:
    try:
        await lease.release()
    except KubeApiError as error:
        logger.warning("the leader lease was not given back; the next leader waits for its end: %s", error)


def _on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


def run_operator(settings: Settings) -> int:
    """Returns the process's exit status: 0 after a stop, 1 when the lease was lost (the pod is started anew), 2 for a
    setting that cannot be used. The caller ends the process at once.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()  # what the imports made stays, and need not be looked through again
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    sys.setrecursionlimit(RECURSION_LIMIT)
    if settings.stores_ca is not None:
        try:
            settings = settings.model_copy(update={"stores_ca": authority(settings.stores_ca)})
            trust(settings.stores_ca or "")
        except RefusedError as error:
            logger.critical("%s", error.message)
            return 2
    # The runner is never closed: what still waits at the end need not be waited for. PyMongo's tasks do not always end
    # when they are cancelled (before Python 3.13 its locks are its own, and lose their holder then).
    runner = asyncio.Runner()
    try:
        runner.run(Operator(settings, on_ending=Deadline().begin).run())
    except* LeadershipLostError as group:
        logger.warning("ending: %s", group.exceptions[0])
        logging.shutdown()
        # Nothing more may be sent, not even by a library's clean-up.
        os._exit(1)
    return 0
