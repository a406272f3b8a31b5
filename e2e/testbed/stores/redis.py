"""A Redis server, with or without a password, alone or as a replica."""

import os
import shutil
from pathlib import Path
from typing import cast
from urllib.parse import quote

import redis

from testbed import apt, ports
from testbed.errors import TestbedError
from testbed.paths import Instance, cache_dir
from testbed.process import Daemon
from testbed.progress import Progress, Silent
from testbed.stores.one_process import OneProcess
from testbed.stores.password import drawn

_LOOPBACK = "127.0.0.1"


def ensure(progress: Progress) -> Path:
    """redis-server of $REDIS_SERVER or PATH, or Debian's.

    Debian's package redis-tools holds the program too, as redis-check-rdb: it takes its role from the name
    it is called by. So a link is enough, and no service of Debian's is installed.
    """
    chosen = os.environ.get("REDIS_SERVER") or shutil.which("redis-server")
    if chosen:
        return Path(chosen)
    apt.ensure(["redis-tools"], progress)
    program = shutil.which("redis-check-rdb")
    if program is None:
        raise TestbedError(
            "redis-tools brought no redis-check-rdb; install redis-server, or set REDIS_SERVER=."
        )
    link = cache_dir() / "bin" / "redis-server"
    link.parent.mkdir(exist_ok=True)
    if not link.exists():
        draft = link.with_name(f"redis-server.{os.getpid()}")
        draft.symlink_to(program)
        draft.replace(link)
    return link


class Redis(OneProcess):
    """A server that keeps its data in an append-only file of the instance.

    With `auth` a password is drawn once and kept in the instance. `replica_of` makes it follow another
    server, which is started first; it answers when it follows.
    """

    def __init__(
        self,
        instance: Instance,
        name: str = "redis",
        *,
        host: str = _LOOPBACK,
        auth: bool = False,
        replica_of: "Redis | None" = None,
        options: dict[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.instance = instance
        self.name = name
        self.host = host
        self.port = ports.reserve(instance, name)
        self.folder = instance.data / name
        self.password = drawn(self._password_file) if auth else None
        self._replica_of = replica_of
        self._options = dict(options or {})
        self._progress = progress or Silent()
        self._server: Daemon | None = None

    @property
    def url(self) -> str:
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"redis://{login}{self.host}:{self.port}/0"

    @property
    def daemon(self) -> Daemon:
        """The process of the server; raises TestbedError when redis-server cannot be had."""
        if self._server is None:
            command = [ensure(self._progress), self._write_configuration()]
            self._server = Daemon(self.instance, self.name, command, ready=self._answers)
        return self._server

    def client(self) -> "redis.Redis":
        """A client over the loopback that the caller closes."""
        return redis.Redis(host=_LOOPBACK, port=self.port, password=self.password, socket_timeout=5)

    def set_password(self, password: str | None) -> None:
        """Changes the password now and for later starts; connections that are logged in stay so."""
        with self.client() as client:
            client.config_set("requirepass", password or "")
        self.password = password
        self._password_file.write_text(password or "")
        self._write_configuration()

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                state = cast("dict[str, object]", client.info())
        except redis.RedisError:
            return False
        return not state["loading"] and state.get("master_link_status", "up") == "up"

    def _write_configuration(self) -> Path:
        """A file, and not arguments, so that the password is not in the list of processes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        listen = _LOOPBACK if self.host == _LOOPBACK else f"{_LOOPBACK} {self.host}"
        settings = {"port": str(self.port), "bind": listen, "dir": f'"{self.folder}"', "appendonly": "yes"}
        settings |= {"save": '""', "protected-mode": "no", "repl-diskless-sync-delay": "0"}
        if self.password:
            settings |= {"requirepass": self.password, "masterauth": self.password}
        if self._replica_of is not None:
            settings["replicaof"] = f"{self._replica_of.host} {self._replica_of.port}"
            settings["masterauth"] = self._replica_of.password or '""'
        if self._options.get("cluster-enabled") == "yes":
            # By default the bus listens 10000 above the port, which is where clients' own ports lie.
            settings["cluster-port"] = str(ports.reserve(self.instance, f"{self.name}-bus"))
        settings |= self._options
        path = self.folder / "redis.conf"
        path.touch(mode=0o600)
        path.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        return path

    @property
    def _password_file(self) -> Path:
        return self.folder / "password"
