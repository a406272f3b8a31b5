"""A whole test bed: the cluster and the stores of one instance, up and down together."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from testbed import cluster_remains, ports
from testbed.errors import TestbedError
from testbed.identity import marked
from testbed.locks import alone
from testbed.paths import Instance
from testbed.process import stop_all
from testbed.progress import Progress
from testbed.stores.elasticsearch import Elasticsearch
from testbed.stores.mongodb import MongoDB
from testbed.stores.redis import Redis
from testbed.stores.s3 import S3
from testbed.stores.sharded import Sharded

if TYPE_CHECKING:
    from testbed.cluster import Cluster

DEFAULT_NAME = "demo"  # its variables are in .testbed/env too

SHARDED = "Sharded MongoDB"

_LOOPBACK = "127.0.0.1"


class Store(Protocol):
    name: str

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def running(self) -> bool: ...


@dataclass(frozen=True)
class Stores:
    """Three members of MongoDB, Redis, Elasticsearch and S3, each asking for a login."""

    mongodb: MongoDB
    redis: Redis
    elasticsearch: Elasticsearch
    s3: S3

    @classmethod
    def of(cls, instance: Instance, host: str, progress: Progress) -> "Stores":
        return cls(
            MongoDB(instance, members=3, host=host, auth=True, progress=progress),
            Redis(instance, host=host, auth=True, progress=progress),
            Elasticsearch(instance, host=host, security=True, progress=progress),
            S3(instance, host=host, progress=progress),
        )

    def all(self) -> list[tuple[str, Store]]:
        return [
            ("MongoDB, three members", self.mongodb),
            ("Redis", self.redis),
            ("Elasticsearch", self.elasticsearch),
            ("S3", self.s3),
        ]

    def environment(self) -> dict[str, str]:
        return {
            "MONGODB_URI": self.mongodb.uri,
            "REDIS_URL": self.redis.url,
            "ELASTICSEARCH_URL": self.elasticsearch.url,
            "S3_ENDPOINT_URL": self.s3.url,
            "AWS_ACCESS_KEY_ID": self.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3.secret_key,
            "AWS_REGION": self.s3.region,
        }


Mode = Literal["control-plane", "node"]


@dataclass(frozen=True)
class State:
    """What of an instance was started: the kind of cluster, its mode (None: no cluster), the stores, and a sharded
    MongoDB beside them.
    """

    kind: str = "own"
    mode: Mode | None = None
    stores: bool = False
    sharded: bool = False
    host: str = _LOOPBACK


class Bed:
    """The test bed of one instance; every call may be repeated."""

    def __init__(self, instance: Instance, progress: Progress) -> None:
        self.instance = instance
        self._progress = progress

    @property
    def env_file(self) -> Path:
        """What a shell sources; it holds logins, so only its owner may read it."""
        return self.instance.root / "env"

    def up(self, mode: Mode | None, *, stores: bool, sharded: bool = False) -> bool:
        """Starts what is missing, with a cluster unless `mode` is None. False when all ran already.

        Raises TestbedError with what to do; what is up by then stays up.
        """
        with alone(self._lock):
            before = self._state()
            wanted = self._wanted(before, mode, stores=stores, sharded=sharded)
            if before == wanted and self.env_file.exists() and all(up for _, up in self._parts(wanted)):
                return False
            if before.host != wanted.host:
                stop_all(self.instance)  # the stores listen on their host's address
            self._state_file.write_text(json.dumps(asdict(wanted)))
            self._start(wanted)
            self._write_env(wanted)
            return True

    def down(self, *, purge: bool = False) -> bool:
        """Stops everything; `purge` also removes all data. False when nothing ran."""
        if not self.instance.root.exists():
            return False
        with alone(self._lock):
            state = self._state()
            ran = bool(marked(self.instance)) or (state.mode is not None and state.kind != "own")
            if ran:
                with self._progress.step(f"Stopping the test bed {self.instance.name}"):
                    if state.mode is not None:
                        self._cluster(state).down()
                    stop_all(self.instance)
            if purge:
                cluster_remains.remove(self.instance)
                ports.release_all(self.instance)
                shutil.rmtree(self.instance.root)
        return ran

    def status(self) -> list[tuple[str, bool]]:
        """Each part and whether it runs; empty when the instance was never up."""
        return self._parts(self._state()) if self._state_file.exists() else []

    def _wanted(self, before: State, mode: Mode | None, *, stores: bool, sharded: bool) -> State:
        """What was started before and what is asked for now."""
        kind = os.environ.get("CLUSTER", "own")
        if before.mode is not None and mode is not None and before.kind != kind:
            raise TestbedError(f"This test bed has the cluster {before.kind}; take it down first.")
        both = State(
            kind=before.kind if mode is None else kind,
            mode="node" if "node" in (mode, before.mode) else mode or before.mode,
            stores=stores or before.stores,
            sharded=sharded or before.sharded,
        )
        return replace(both, host=self._cluster(both).host_address()) if both.mode == "node" else both

    def _start(self, state: State) -> None:
        jobs: list[Callable[[], None]] = []
        if state.mode is not None:
            jobs.append(partial(self._start_cluster, state.mode, self._cluster(state)))
        if state.stores:
            stores = Stores.of(self.instance, state.host, self._progress)
            jobs += [partial(self._start_store, what, store) for what, store in stores.all()]
        if state.sharded:
            jobs.append(partial(self._start_store, SHARDED, self._sharded(state)))
        with ThreadPoolExecutor(len(jobs)) as pool:
            outcomes = [pool.submit(job) for job in jobs]
        failures = [error for error in (outcome.exception() for outcome in outcomes) if error is not None]
        for failure in failures:
            if not isinstance(failure, TestbedError):
                raise failure
        if failures:
            raise TestbedError("\n".join(str(failure) for failure in failures))

    def _start_cluster(self, mode: Mode, cluster: "Cluster") -> None:
        cluster.up(mode)
        if mode == "node":
            cluster.provide_storage()

    def _start_store(self, what: str, store: Store) -> None:
        with self._progress.step(f"Starting {what}"):
            store.start()

    def _parts(self, state: State) -> list[tuple[str, bool]]:
        parts: list[tuple[str, bool]] = []
        if state.mode is not None:
            parts.append((f"Kubernetes ({state.kind}, {state.mode})", self._cluster(state).running()))
        if state.mode == "node":
            parts.append(("Storage classes", self._cluster(state).storage_running()))
        if state.stores:
            stores = Stores.of(self.instance, state.host, self._progress)
            parts += [(what, store.running()) for what, store in stores.all()]
        if state.sharded:
            parts.append((SHARDED, self._sharded(state).running()))
        return parts

    def _write_env(self, state: State) -> None:
        variables: dict[str, str] = {}
        folders = [str(Path(sys.executable).parent)]
        if state.mode is not None:
            cluster = self._cluster(state)
            cluster.tool("kubectl")
            folders.insert(0, str(cluster.bin))
            variables |= cluster.environment()
        if state.stores:
            variables |= Stores.of(self.instance, state.host, self._progress).environment()
            variables["MONGODB_ROUTER_URI"] = self._sharded(state).uri if state.sharded else ""
        lines = [f"export PATH={shlex.quote(':'.join(folders))}:$PATH\n"]
        lines += [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
        paths = [self.env_file]
        if self.instance.name == DEFAULT_NAME:
            paths.append(self.instance.root.parent / "env")
        for path in paths:
            path.touch(mode=0o600)
            path.write_text("".join(lines))

    def _sharded(self, state: State) -> Sharded:
        return Sharded(self.instance, host=state.host, progress=self._progress)

    def _cluster(self, state: State) -> "Cluster":
        # The cluster's modules are not needed, and not loaded, for the stores alone.
        from testbed.cluster import provider  # noqa: PLC0415

        os.environ["CLUSTER"] = state.kind  # what was started decides, also when the variable is gone by now
        return provider.choose(self.instance, self._progress)

    @property
    def _state_file(self) -> Path:
        return self.instance.root / "run" / "bed.json"

    def _state(self) -> State:
        return State(**json.loads(self._state_file.read_text())) if self._state_file.exists() else State()

    @property
    def _lock(self) -> Path:
        """Two calls for one instance wait for each other."""
        return self.instance.run / "lock"
