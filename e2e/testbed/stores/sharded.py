"""A sharded MongoDB cluster: a real config server, real shards, and a router in front.

The router is a real `mongos` where there is one ($MONGOS, or on PATH), else the stand-in of `testbed.stores.router`.
"""

import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from testbed import ports
from testbed.paths import Instance
from testbed.process import Daemon, stop_together, wait_until
from testbed.progress import Progress, Silent
from testbed.stores import mongod, replica_set

Document = dict[str, Any]
Client = MongoClient[Document]

_LOOPBACK = "127.0.0.1"
_ELECTION_SECONDS = 2.0
BALANCER_ROUND_MS = 200
"""Instead of ten seconds between two rounds of the balancer."""
MAJORITY = {"w": "majority", "wtimeout": 60_000}


class Sharded:
    """A config server and shards `shard0`, `shard1`, ..., each a replica set of one member.

    Their data stay in the instance over stop and start, as long as the address stays: the servers keep each other's
    addresses in many places, so with another one the cluster begins empty. There is no login, since the stand-in has
    none. The servers accept test commands, by which the balancer takes a round every 0.2 s and a test may hold a
    resharding where it wants.
    """

    def __init__(
        self,
        instance: Instance,
        name: str = "sharded",
        *,
        shards: int = 2,
        host: str = _LOOPBACK,
        progress: Progress | None = None,
    ) -> None:
        self.instance = instance
        self.name = name
        self.host = host
        self.folder = instance.data / name
        self.shard_names = [f"shard{index}" for index in range(shards)]
        self._ports = {
            part: ports.reserve(instance, f"{name}-{part}")
            for part in ("config", *self.shard_names, "router")
        }
        self._progress = progress or Silent()
        self._servers: dict[str, Daemon] = {}
        self._router: Daemon | None = None

    @property
    def uri(self) -> str:
        """Of the router."""
        return f"mongodb://{self.host}:{self._ports['router']}/"

    def client(self, **options: Any) -> Client:
        """A client of the router that the caller closes."""
        return MongoClient(self.uri, **{"serverSelectionTimeoutMS": 15_000, **options})

    def shard_client(self, shard: str, **options: Any) -> Client:
        """A client of one shard, past the router, that the caller closes: it shows what lies on that shard."""
        return self._direct(shard, **options)

    def config_client(self) -> Client:
        """A client of the config server that the caller closes."""
        return self._direct("config")

    @property
    def servers(self) -> dict[str, Daemon]:
        """The config server and the shards; raises TestbedError when mongod cannot be had."""
        if not self._servers:
            binary = mongod.ensure(self._progress)
            self._servers = {part: self._server(binary, part) for part in ("config", *self.shard_names)}
        return self._servers

    @property
    def router(self) -> Daemon:
        if self._router is None:
            self._router = Daemon(
                self.instance,
                f"{self.name}-router",
                self._router_command(),
                env={"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
                ready=self._answers,
            )
        return self._router

    def is_stand_in(self) -> bool:
        """Whether the router is not a real mongos."""
        return real_mongos() is None

    def start(self) -> None:
        """Returns when the router serves a cluster with all its shards; harmless when it runs already."""
        self._forget_other_address()
        with ThreadPoolExecutor(len(self.servers)) as pool:
            list(pool.map(self._start_server, self.servers))
        with self._direct("config") as config:
            self._add_shards(config)
        self.router.start()

    def stop(self) -> None:
        self.router.stop()
        stop_together(list(self.servers.values()))

    def kill(self) -> None:
        for daemon in (self.router, *self.servers.values()):
            daemon.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def running(self) -> bool:
        return all(daemon.running() for daemon in (self.router, *self.servers.values()))

    def fail_point(self, part: str, name: str, *, on: bool, data: Document | None = None) -> None:
        """Makes a server stop or fail at a place of its code that its makers prepared for tests."""
        with self._direct(part) as client:
            mode = "alwaysOn" if on else "off"
            client.admin.command({"configureFailPoint": name, "mode": mode, "data": data or {}})

    def _forget_other_address(self) -> None:
        known = self.folder / "address"
        if known.exists() and known.read_text() != self.host:
            self.stop()
            shutil.rmtree(self.folder)
            self._servers.clear()
        self.folder.mkdir(parents=True, exist_ok=True)
        known.write_text(self.host)

    def _start_server(self, part: str) -> None:
        daemon = self.servers[part]
        daemon.start()
        daemon.wait_ready(partial(self._hello, part), 60)
        with self._direct(part) as client:
            address = f"{self.host}:{self._ports[part]}"
            replica_set.configure(client, part, [address], _ELECTION_SECONDS, configsvr=part == "config")
        wait_until(lambda: self._hello(part).get("isWritablePrimary"), 60, f"A primary in {self.name}-{part}")

    def _add_shards(self, config: Client) -> None:
        known = {entry["_id"] for entry in config.config.shards.find()}
        for shard in self.shard_names:
            if shard not in known:
                address = f"{shard}/{self.host}:{self._ports[shard]}"
                config.admin.command({"_configsvrAddShard": address, "name": shard, "writeConcern": MAJORITY})

    def _server(self, binary: Path, part: str) -> Daemon:
        data = self.folder / part
        data.mkdir(parents=True, exist_ok=True)
        listen = _LOOPBACK if self.host == _LOOPBACK else f"{_LOOPBACK},{self.host}"
        command: list[str | Path] = [binary, "--configsvr" if part == "config" else "--shardsvr"]
        command += [
            "--replSet",
            part,
            "--port",
            str(self._ports[part]),
            "--bind_ip",
            listen,
            "--dbpath",
            data,
        ]
        command += ["--nounixsocket", "--oplogSize", "64", "--wiredTigerCacheSizeGB", "0.25"]
        for parameter, value in _parameters(part).items():
            command += ["--setParameter", f"{parameter}={value}"]
        return Daemon(self.instance, f"{self.name}-{part}", command, stop_deadline=30)

    def _router_command(self) -> list[str | Path]:
        config, port = f"{self.host}:{self._ports['config']}", str(self._ports["router"])
        hosts = sorted({_LOOPBACK, self.host})
        mongos = real_mongos()
        if mongos is not None:
            listen = ["--port", port, "--bind_ip", ",".join(hosts)]
            return [
                mongos,
                "--configdb",
                f"config/{config}",
                *listen,
                "--setParameter",
                "enableTestCommands=1",
            ]
        listen = [word for host in hosts for word in ("--host", host)]
        return [sys.executable, "-m", "testbed.stores.router", "--port", port, "--config", config, *listen]

    def _direct(self, part: str, **options: Any) -> Client:
        chosen = {"serverSelectionTimeoutMS": 15_000, **options}
        return MongoClient(_LOOPBACK, self._ports[part], directConnection=True, **chosen)

    def _hello(self, part: str) -> Document:
        timeouts = dict.fromkeys(("serverSelectionTimeoutMS", "connectTimeoutMS", "socketTimeoutMS"), 1_000)
        with self._direct(part, **timeouts) as client:
            try:
                return client.admin.command("hello")
            except PyMongoError:
                return {}

    def _answers(self) -> bool:
        client: Client = MongoClient(
            _LOOPBACK, self._ports["router"], directConnection=True, serverSelectionTimeoutMS=1_000
        )
        with client:
            try:
                return len(client.admin.command("listShards")["shards"]) == len(self.shard_names)
            except PyMongoError:
                return False


def real_mongos() -> str | None:
    """A mongos of this machine: $MONGOS, or the one on PATH."""
    return os.environ.get("MONGOS") or shutil.which("mongos")


def _parameters(part: str) -> dict[str, str]:
    common = {
        "diagnosticDataCollectionEnabled": "false",
        "shutdownTimeoutMillisForSignaledShutdown": "100",
        "enableTestCommands": "1",
    }
    if part == "config":
        pace = {"mode": "alwaysOn", "data": {"intervalMs": BALANCER_ROUND_MS}}
        return {
            **common,
            # Otherwise every resharding takes five minutes at least.
            "reshardingMinimumOperationDurationMillis": "0",
            "failpoint.overrideBalanceRoundInterval": json.dumps(pace),
        }
    # What was moved away is deleted at once instead of after a quarter of an hour.
    return {**common, "orphanCleanupDelaySecs": "0"}
