"""A MongoDB replica set of one or three members."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from testbed import ports
from testbed.errors import TestbedError
from testbed.paths import Instance
from testbed.process import Daemon, stop_together, wait_until
from testbed.progress import Progress, Silent
from testbed.stores import mongod, replica_set
from testbed.stores.password import drawn

Document = dict[str, Any]
Client = MongoClient[Document]

_LOOPBACK = "127.0.0.1"
_ROOT = "root"
_USER_EXISTS = 51003


class MongoDB:
    """A replica set; its data stays in the instance over stop and start.

    `host` is the address that members announce, so clients and pods must reach it; members listen on the
    loopback too. With `auth` a user `root` exists, whose password is drawn once and kept in the instance.
    A lost primary is replaced after about `election_timeout` seconds. The oplog loses nothing that is younger than
    the last checkpoint, so where a test fills a small one `checkpoint_seconds` decides when it rolls over.
    """

    set_name = "rs0"

    def __init__(
        self,
        instance: Instance,
        name: str = "mongodb",
        *,
        members: int = 1,
        host: str = _LOOPBACK,
        auth: bool = False,
        oplog_mib: int = 256,
        cache_gib: float = 0.25,
        election_timeout: float = 2,
        checkpoint_seconds: int = 60,
        parameters: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        if members not in (1, 3):
            raise TestbedError(f"A replica set of the test bed has 1 or 3 members, not {members}.")
        self.instance = instance
        self.name = name
        self.host = host
        self.folder = instance.data / name
        self.addresses = [f"{host}:{ports.reserve(instance, f'{name}-{index}')}" for index in range(members)]
        self._auth = auth
        self._oplog_mib = oplog_mib
        self._cache_gib = cache_gib
        self._election_timeout = election_timeout
        self._checkpoint_seconds = checkpoint_seconds
        self._parameters = {"shutdownTimeoutMillisForSignaledShutdown": "100", **(parameters or {})}
        self._progress = progress or Silent()
        self._members: list[Daemon] = []

    @property
    def members(self) -> list[Daemon]:
        """The processes of the members, by index; raises TestbedError when mongod cannot be had."""
        if not self._members:
            binary = mongod.ensure(self._progress)
            self._members = [self._member(binary, index) for index in range(len(self.addresses))]
        return self._members

    @property
    def uri(self) -> str:
        """For clients; with the root user where there is authentication."""
        return self.uri_for(_ROOT, drawn(self._password_file)) if self._auth else self._uri("", "")

    def uri_for(self, user: str, password: str) -> str:
        return self._uri(f"{quote_plus(user)}:{quote_plus(password)}@", "&authSource=admin")

    def client(self, **options: Any) -> Client:
        """A client that the caller closes."""
        return MongoClient(self.uri, **{"serverSelectionTimeoutMS": 15_000, **options})

    def start(self) -> None:
        """Returns when there is a primary and every member follows it; harmless when it runs already."""
        if self._auth:
            drawn(self._key_file)
        for member in self.members:
            member.start()
        for index, member in enumerate(self.members):
            member.wait_ready(partial(self._hello, index), 60)
        with self._direct(0) as client:
            replica_set.configure(client, self.set_name, self.addresses, self._election_timeout)
        wait_until(self._settled, 60, f"A primary and its followers in the replica set {self.name}")
        if self._auth:
            with self._direct(self.primary() or 0) as client:
                _create_user(client, _ROOT, drawn(self._password_file), [(_ROOT, "admin")])

    def stop(self) -> None:
        stop_together(self.members)

    def kill(self, member: int | None = None) -> None:
        """SIGKILL for one member, or for all."""
        for daemon in self._chosen(member):
            daemon.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self, member: int | None = None) -> None:
        for daemon in self._chosen(member):
            daemon.freeze()

    def thaw(self, member: int | None = None) -> None:
        for daemon in self._chosen(member):
            daemon.thaw()

    def running(self) -> bool:
        return all(member.running() for member in self.members)

    def primary(self) -> int | None:
        """The index of the member that is primary now; None while there is none."""
        for index, member in enumerate(self.members):
            if member.running() and self._hello(index).get("isWritablePrimary"):
                return index
        return None

    def step_down(self, seconds: int = 10) -> None:
        """Makes the primary step down and waits for the next one.

        A single member is without a primary for `seconds`, and then primary again.
        """
        wait_until(lambda: self.primary() is not None, 30, f"A primary in the replica set {self.name}")
        before = self.primary() or 0
        others = [index for index in range(len(self.members)) if index != before]
        with self._direct(before) as client:
            # Without a follower to hand over to, the server steps down only by force and without catching up.
            options: Document = {"secondaryCatchUpPeriodSecs": min(seconds, 5)} if others else {"force": True}
            client.admin.command("replSetStepDown", seconds, **options)
        wait_until(
            lambda: self.primary() in (others or [before]), seconds + 30, "A primary after the step-down"
        )

    def create_user(self, user: str, password: str, roles: Sequence[tuple[str, str]]) -> None:
        """Makes a user in `admin` with (role, database) pairs; an existing one gets the new ones."""
        with self.client() as client:
            _create_user(client, user, password, roles)

    def set_password(self, user: str, password: str) -> None:
        """Changes the password of a user, so that a new connection with the old one is refused."""
        with self.client() as client:
            client.admin.command("updateUser", user, pwd=password)
        if user == _ROOT:
            self._password_file.write_text(password)

    def _uri(self, credentials: str, options: str) -> str:
        hosts = ",".join(self.addresses)
        return f"mongodb://{credentials}{hosts}/?replicaSet={self.set_name}{options}"

    def _member(self, binary: Path, index: int) -> Daemon:
        name = f"{self.name}-{index}"
        data = self.folder / str(index)
        data.mkdir(parents=True, exist_ok=True)
        listen = _LOOPBACK if self.host == _LOOPBACK else f"{_LOOPBACK},{self.host}"
        command: list[str | Path] = [
            binary,
            "--replSet",
            self.set_name,
            "--port",
            str(self._port(index)),
            "--bind_ip",
            listen,
        ]
        command += ["--dbpath", data, "--nounixsocket", "--oplogSize", str(self._oplog_mib)]
        command += ["--wiredTigerCacheSizeGB", str(self._cache_gib)]
        command += ["--syncdelay", str(self._checkpoint_seconds)]
        command += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
        for parameter, value in self._parameters.items():
            command += ["--setParameter", f"{parameter}={value}"]
        if self._auth:
            command += ["--keyFile", self._key_file]
        return Daemon(self.instance, name, command, stop_deadline=30)

    def _chosen(self, member: int | None) -> list[Daemon]:
        return self.members if member is None else [self.members[member]]

    def _port(self, index: int) -> int:
        return int(self.addresses[index].rpartition(":")[2])

    def _direct(self, index: int) -> Client:
        """A client of one member over the loopback, with the key file's own login where there is one."""
        login: Document = {}
        if self._auth:
            login = {"username": "__system", "password": self._key_file.read_text(), "authSource": "local"}
        port = self._port(index)
        return MongoClient(_LOOPBACK, port, directConnection=True, serverSelectionTimeoutMS=5_000, **login)

    def _hello(self, index: int) -> Document:
        """What the member says of itself, which needs no login; empty when it does not answer."""
        timeouts: Document = {
            "serverSelectionTimeoutMS": 1_000,
            "connectTimeoutMS": 1_000,
            "socketTimeoutMS": 1_000,
        }
        client: Client = MongoClient(_LOOPBACK, self._port(index), directConnection=True, **timeouts)
        with client:
            try:
                return client.admin.command("hello")
            except PyMongoError:
                return {}

    def _settled(self) -> bool:
        hellos = [self._hello(index) for index in range(len(self.members))]
        followers = [hello for hello in hellos if hello.get("secondary")]
        return any(hello.get("isWritablePrimary") for hello in hellos) and len(followers) == len(hellos) - 1

    @property
    def _key_file(self) -> Path:
        return self.folder / "key"

    @property
    def _password_file(self) -> Path:
        return self.folder / "root-password"


def _create_user(client: Client, user: str, password: str, roles: Sequence[tuple[str, str]]) -> None:
    granted = [{"role": role, "db": database} for role, database in roles]
    try:
        client.admin.command("createUser", user, pwd=password, roles=granted)
    except OperationFailure as error:
        if error.code != _USER_EXISTS:
            raise
        client.admin.command("updateUser", user, pwd=password, roles=granted)
