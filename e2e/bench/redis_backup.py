"""A backup of Redis beside `redis-cli --rdb`, in turns on the same server: `python -m bench.redis_backup [MIB]`.

The data are what the data layer keeps in Redis: users and sessions as hashes, rate limits and locks as small strings
with a time to live, cached documents as JSON. The server compresses its strings (rdbcompression), as by default.
"""

import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import redis

from bench.figures import MIB, Figure, printed
from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.keys import Key
from lucid_storage.archive.manifest import ObjectKind
from lucid_storage.archive.streams import Identity, open_sink, packing_for
from lucid_storage.models.storage import Compression
from lucid_storage.stores.redis.rdb.dataset import DataSet
from lucid_storage.stores.redis.replication import DataSetStream
from testbed.errors import TestbedError
from testbed.paths import Instance
from testbed.stores.redis import Redis

SIZE_MIB = 256
TURNS = 5
BAR = 0.9
KEY = Key("bench", bytes(range(32)))
BATCH = 5000


def rows(mib: int = SIZE_MIB) -> list[Figure]:
    """The dump alone, then compressed, encrypted and written as a backup is."""
    with tempfile.TemporaryDirectory(prefix="lucid-bench-") as folder:
        root = Path(folder)
        server = Redis(Instance("bench-redis", root / "servers"), "redis", options={"appendonly": "no"})
        server.start()
        try:
            keys = _fill(server, mib)
            times = turns(
                {
                    "peer": lambda: _redis_cli(server, root / "cli.rdb"),
                    "dump": lambda: _dump(server, root / "ours.rdb", keys),
                    "backup": lambda: _backup(server, root / "archive", keys),
                }
            )
            size = (root / "cli.rdb").stat().st_size
        finally:
            server.stop()
    note = f"median of {TURNS}, {keys} keys, {size / MIB:.0f} MiB of RDB"
    return [
        _figure("Redis, dump and count", times["dump"], times["peer"], size, note),
        _figure("Redis, backup (zstd, encrypted)", times["backup"], times["peer"], size, note),
    ]


def turns(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds, the median of each; one after the other, so that a busy moment meets all."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(TURNS + 1):
        for name, run in runs.items():
            began = perf_counter()
            run()
            if turn:  # the first one warms up
                times[name].append(perf_counter() - began)
    return {name: median(all_times) for name, all_times in times.items()}


def _figure(row: str, ours: float, peer: float, size: int, note: str) -> Figure:
    ratio = peer / ours
    told = f"{ours:.2f} s, {size / MIB / ours:.0f} MiB/s"
    return Figure(row, told, f"{peer:.2f} s, redis-cli --rdb", ratio, f"at least {BAR}", ratio >= BAR, note)


def _redis_cli(server: Redis, path: Path) -> None:
    program = shutil.which("redis-cli")
    if program is None:
        raise TestbedError("redis-cli is missing; install redis-tools.")
    subprocess.run([program, "-p", str(server.port), "--rdb", path], check=True, capture_output=True)


def _dump(server: Redis, path: Path, keys: int) -> None:
    with path.open("wb") as file:
        _read(server, file.write, keys)


def _backup(server: Redis, folder: Path, keys: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    compression = Compression()
    identity = Identity("bench", ObjectKind.REDIS_RDB)
    sink = open_sink(
        FolderStore(folder), "redis", identity, packing_for(compression, KEY), KEY, compression.level
    )
    _read(server, sink.write, keys)
    sink.finish()


def _read(server: Redis, write: Callable[[bytes], object], keys: int) -> None:
    stream = DataSetStream(server.url, label="bench")

    def read(size: int) -> bytes:
        data = stream.read(size)
        write(data)
        return data

    try:
        assert DataSet(read).count().total == keys
    finally:
        stream.close()


def _fill(server: Redis, mib: int) -> int:
    """Keys until the server holds so much; returns their number."""
    draw = random.Random(7)
    words = [draw.randbytes(draw.randint(2, 5)).hex() for _ in range(4000)]
    with server.client() as client:
        number = 0
        while client.info("memory")["used_memory_dataset"] < mib * MIB:
            pipe = client.pipeline(transaction=False)
            for _ in range(BATCH):
                number += 1
                _add(pipe, number, draw, words)
            pipe.execute()
        return int(client.dbsize())


def _add(pipe: "redis.client.Pipeline", number: int, draw: random.Random, words: list[str]) -> None:
    """Of ten keys: four cached documents, two users, two sessions, a rate limit and a lock."""
    kind = number % 10
    if kind < 4:
        lines = [{"sku": draw.choice(words), "price": draw.random()} for _ in range(draw.randint(1, 12))]
        text = json.dumps({"id": number, "note": " ".join(draw.choices(words, k=20)), "lines": lines})
        pipe.set(f"lucid:cache:manifest:{number}", text, ex=3600)
    elif kind < 8:
        entity, ttl = ("user", None) if kind < 6 else ("session", 900)
        key = f"lucid:{entity}:{draw.randbytes(12).hex()}"
        pipe.hset(key, mapping={"token": draw.randbytes(32), "name": draw.choice(words), "at": number})
        if ttl:
            pipe.expire(key, ttl)
    elif kind == 8:
        pipe.set(f"lucid:ratelimit:user{number}:{draw.choice(words)}:GET", draw.randint(1, 60), ex=60_000)
    else:
        pipe.set(f"lucid:lock:payment:{number}", draw.randbytes(16).hex(), ex=30_000)


if __name__ == "__main__":
    sys.exit(printed(rows, SIZE_MIB))
