"""A mongod that is no member of a replica set."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from testbed import ports
from testbed.paths import Instance
from testbed.process import Daemon
from testbed.progress import Silent
from testbed.stores import mongod


@contextmanager
def standalone(instance: Instance) -> Iterator[str]:
    name = f"standalone-{uuid4().hex[:8]}"
    folder = instance.data / name
    folder.mkdir(parents=True)
    port = ports.reserve(instance, name)
    command = [mongod.ensure(Silent()), "--port", str(port), "--dbpath", folder, "--nounixsocket"]
    daemon = Daemon(instance, name, [*command, "--wiredTigerCacheSizeGB", "0.25"], stop_deadline=30)
    daemon.start()
    uri = f"mongodb://127.0.0.1:{port}/"

    def answers() -> bool:
        with MongoClient(uri, serverSelectionTimeoutMS=1000) as client:
            try:
                return bool(client.admin.command("ping"))
            except PyMongoError:
                return False

    daemon.wait_ready(answers, 60)
    try:
        yield uri
    finally:
        daemon.kill()
