"""A data set with every type and encoding that Redis 7 writes, in three databases, and what it is."""

from __future__ import annotations

import random
import time
from typing import Any

LIBRARY = "#!lua name=lucidlib\nredis.register_function('one', function() return 1 end)"
FAR = 4_102_444_800_000  # the year 2100, in milliseconds
OPTIONS = {"enable-debug-command": "yes"}
"""Of the server, so that a list of plain nodes can be made without a value of 1 GiB."""


def populate(server: Any) -> None:
    """Fills the server, which is empty."""
    some = random.Random(7)
    with server.client() as client:
        _strings(client, some)
        _collections(client, some)
        _stream(client)
        client.execute_command("FUNCTION", "LOAD", LIBRARY)
        _other_databases(client)


def _strings(client: Any, some: random.Random) -> None:
    client.mset(
        {
            "s:small": "x",
            "s:empty": "",
            "s:int8": "-7",
            "s:int16": "31000",
            "s:int32": "-2000000000",
            "s:int64": "9000000000000000000",
            "s:compressed": "na" * 5000,
            "s:text": "a bit of text that repeats a bit of text that repeats",
            "s:random": some.randbytes(700),
            "s:14 bits": some.randbytes(16_000),
            "s:32 bits": some.randbytes(900_000),
            "12345": "a name that is a number",
            "-1": "another",
            "k" * 300: "a name that compresses",
            b"\x00\xff\r\n:{x}": b"\xff\x00",
        }
    )
    client.setrange("s:bitmap", 40_000, b"\x01")
    client.pfadd("s:hll", *range(3000))
    client.set("t:later", "x", pxat=FAR)
    client.set("t:seconds", "x", ex=100_000)


def _collections(client: Any, some: random.Random) -> None:
    client.rpush("l:small", "a", "b", 3)
    client.rpush("l:nodes", *(some.randbytes(100).hex() for _ in range(2000)))
    client.execute_command("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "200B")
    client.rpush("l:plain", "x" * 1000, "small", some.randbytes(300))
    client.execute_command("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "0")
    client.sadd("set:ints", *range(100))
    client.sadd("set:words", *(f"word {i}" for i in range(1000)))
    client.zadd("z:small", {"a": 1, "b": -2.5, "c": float("inf")})
    client.zadd("z:big", {f"m{i}": i / 7 for i in range(1000)} | {"least": float("-inf")})
    client.hset("h:small", mapping={"f": "v", "n": 1})
    client.hset("h:big", mapping={f"field {i}": some.randbytes(i % 90) for i in range(1500)})
    client.config_set("hash-max-listpack-entries", 5000)
    client.hset("h:big listpack", mapping={f"f{i}": i for i in range(3000)})
    client.geoadd("geo", (13.36, 38.11, "Palermo"))
    client.pexpireat("h:big", FAR)


def _stream(client: Any) -> None:
    for i in range(500):
        client.xadd("x:stream", {"n": i, "text": "t" * (i % 50)}, id=f"{i + 1}-1")
    client.xdel("x:stream", "7-1", "8-1")
    client.xgroup_create("x:stream", "readers", id="0")
    client.xgroup_create("x:stream", "idle", id="$")
    client.xreadgroup("readers", "one", {"x:stream": ">"}, count=40)
    client.xreadgroup("readers", "two", {"x:stream": ">"}, count=3)
    client.xack("x:stream", "readers", "1-1", "2-1")
    client.xgroup_createconsumer("x:stream", "readers", "three")
    client.xadd("x:empty", {"a": 1}, id="5-5")
    client.xdel("x:empty", "5-5")


def _other_databases(client: Any) -> None:
    client.execute_command("SELECT", 3)
    client.set("s:small", "of database 3")
    client.execute_command("SELECT", 15)
    for i in range(3000):
        client.set(f"many:{i}", i)
    client.execute_command("SELECT", 0)


def dumped(client: Any, databases: range = range(16)) -> dict[tuple[int, bytes], tuple[bytes, int]]:
    """Every key's DUMP and time of expiry (-1: none), by database and name."""
    found = {}
    for database in databases:
        client.execute_command("SELECT", database)
        for key in client.scan_iter(count=1000):
            found[database, key] = (client.dump(key), client.pexpiretime(key))
    client.execute_command("SELECT", 0)
    return found


def digest(client: Any) -> dict[tuple[int, bytes], bytes]:
    """Every key's digest, which does not depend on the order inside hash tables."""
    found = {}
    for database in range(16):
        client.execute_command("SELECT", database)
        for key in client.scan_iter(count=1000):
            found[database, key] = client.execute_command("DEBUG", "DIGEST-VALUE", key)[0]
    client.execute_command("SELECT", 0)
    return found


def until(condition: Any, seconds: float = 15) -> None:
    """Returns when the condition holds; fails after the time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.02)
