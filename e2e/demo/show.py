"""What the stores hold now, asked from the stores themselves."""

import json
import time
from collections.abc import Callable

from demo.install import DATABASE, TENANT
from testbed.bed import Stores
from testbed.cluster.provider import Cluster
from testbed.errors import TestbedError

SESSION = "lucid:session:demo"


def forget(stores: Stores) -> None:
    """What an earlier demo that was cut off wrote: without a TTL, in a Redis started anew, it would ask for consent."""
    stores.redis.client().delete(SESSION)


def stores(cluster: Cluster, stores: Stores) -> None:
    """Three short tables."""
    _mongodb(stores)
    _redis(cluster, stores)
    _elasticsearch(stores)


def _mongodb(stores: Stores) -> None:
    print(f"MongoDB, database {DATABASE}:")
    with stores.mongodb.client() as client:
        database = client[DATABASE]
        for found in sorted(database.list_collections(), key=lambda c: c["name"]):
            if found["name"].startswith("system."):
                continue
            options = found["options"]
            special = [k for k in ("validator", "capped", "timeseries") if options.get(k)]
            indexes = len(list(database[found["name"]].list_indexes()))
            print(f"  {found['name']:<20} {indexes:>2} indexes  {', '.join(special)}")


def _redis(cluster: Cluster, stores: Stores) -> None:
    """A key that an application wrote without a TTL gets the declared one.

    Consent is for one Redis: one that was started anew is counted first, and must hold no such key then.
    """
    forget(stores)
    client = stores.redis.client()
    server = client.info("replication")["master_replid"]
    _wait(lambda: _counted(cluster, server), bool, 60.0)
    client.set(SESSION, "no TTL was set by the application")
    print(f"\nRedis: {SESSION} was written without a TTL ...")
    ttl = _wait(lambda: int(client.ttl(SESSION)), lambda value: value > 0)
    print(f"  ... and has one now: {ttl} s (declared: 900 s, enforced)")


def _counted(cluster: Cluster, server: str) -> bool:
    """Whether the operator enforces all key spaces of sessions in this Redis."""
    found = json.loads(cluster.kubectl("get", "collection", "sessions", "-n", TENANT, "-o", "json"))
    spaces = found.get("status", {}).get("cache", [])
    return bool(spaces) and all(str(space.get("enforcedOn", "")).startswith(server) for space in spaces)


def _elasticsearch(stores: Stores) -> None:
    print("\nElasticsearch:")
    aliases = stores.elasticsearch.request("GET", "/_alias")
    for index, body in sorted(aliases.items()):
        if index.startswith("lucid-"):
            shown = [
                name + (" (write)" if a.get("is_write_index") else "") for name, a in body["aliases"].items()
            ]
            print(f"  {index:<30} {', '.join(sorted(shown))}")


def _wait(ask: Callable[[], int], holds: Callable[[int], bool], deadline: float = 30.0) -> int:
    end = time.monotonic() + deadline
    while not holds(value := ask()):
        if time.monotonic() > end:
            raise TestbedError(f"the operator did not act within {deadline:.0f} s")
        time.sleep(0.05)
    return value
