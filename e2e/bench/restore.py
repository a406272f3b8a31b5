"""A restore with its index builds: `python -m bench.restore [MIB]`.

Ours is the whole worker, a process of its own: it reads an encrypted, compressed backup, stages it, compares it,
builds the indexes and writes the journal. The peer is `mongorestore` with its defaults where that is on PATH, else a
bare unordered raw insert: documents ready in memory, 2,000 a batch, one thread a collection, then the same indexes.
"""

import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from bench.archive import documents
from bench.figures import MIB, Figure, machine, table
from bench.worker import run_worker
from lucid_storage.archive.content import documents as split
from testbed.paths import Instance
from testbed.stores.mongodb import MongoDB

SIZE_MIB = 512
COLLECTIONS = ("orders", "events")
INDEXED = "customer"
BATCH = 2000
BAR_MONGORESTORE, BAR_BARE = 1.5, 0.85
SOURCE, OURS, PEER = "bench_source", "bench_ours", "bench_peer"
Client = MongoClient[dict[str, Any]]


def rows(mib: int = SIZE_MIB) -> list[Figure]:
    """One row: ours beside the peer, on the same server, one after the other, each into an empty database."""
    with tempfile.TemporaryDirectory(prefix="lucid-bench-") as folder:
        root = Path(folder)
        server = MongoDB(
            Instance("bench-restore", root / "servers"), "mongodb", cache_gib=1.0, oplog_mib=2048
        )
        server.start()
        try:
            with server.client() as client:
                sample = _fill(client, mib)
                order = _backed_up(server.uri, root)
                client.admin.command("fsync")
                peer_name, peer, bar = _peer(server.uri, client, sample)
                client.admin.command("fsync")
                seconds, peak, told = _ours(server.uri, root, order)
        finally:
            server.stop()
    ratio = peer / seconds
    return [
        Figure(
            "restore with indexes",
            f"{seconds:.1f} s ({mib / seconds:.0f} MiB/s), peak {peak / MIB:.0f} MiB",
            f"{peer_name}: {peer:.1f} s",
            round(ratio, 2),
            f"at least {bar}",
            ok=ratio >= bar and bool(told["ok"]),
            note=f"{told.get('loadedDocuments', 0)} documents, {mib} MiB, one index a collection",
        )
    ]


def _fill(client: Client, mib: int) -> dict[str, list[RawBSONDocument]]:
    """The source's collections, half of the size each."""
    sample: dict[str, list[RawBSONDocument]] = {}
    for number, name in enumerate(COLLECTIONS):
        found = []
        for raw in split(_whole(documents(mib * MIB // len(COLLECTIONS)))):
            document = RawBSONDocument(bytes(raw))
            if ("customer" in document) == (number == 0):
                found.append(document)
        sample[name] = found
        _insert(client, SOURCE, name, found)
        client[SOURCE][name].create_index(INDEXED)
    return sample


def _whole(data: bytes) -> bytes:
    """Without the document that the size cut off."""
    at = 0
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        if at + size > len(data):
            break
        at += size
    return data[:at]


def _insert(client: Client, database: str, name: str, found: list[RawBSONDocument]) -> None:
    collection = client[database][name]
    for start in range(0, len(found), BATCH):
        collection.insert_many(found[start : start + BATCH], ordered=False)  # type: ignore[arg-type]


def _backed_up(uri: str, root: Path) -> dict[str, Any]:
    (root / "keys").mkdir()
    (root / "keys" / "k").write_bytes(bytes(range(32)))
    order = _order(
        id=str(uuid.uuid4()),
        type="full",
        engines=["mongodb"],
        mongodb={"databases": [SOURCE]},
        verify="Upload",
    )
    run_worker("backup", uri, root, order)
    return order


def _ours(uri: str, root: Path, backup: dict[str, Any]) -> tuple[float, int, dict[str, Any]]:
    order = _order(backupId=backup["id"], sourceDatabase=SOURCE, targetDatabase=OURS)
    return run_worker("restore", uri, root, order)


def _order(**more: Any) -> dict[str, Any]:
    owner = {"cluster": "c", "namespace": "n", "name": "bench", "uid": "u", "specHash": uuid.uuid4().hex}
    return {
        "run": uuid.uuid4().hex[:12],
        "owner": owner,
        "destination": {"root": "r"},
        "chain": "bench",
        "keyId": "k",
        "deadlineSeconds": 1800,
        **more,
    }


def _peer(uri: str, client: Client, sample: dict[str, list[RawBSONDocument]]) -> tuple[str, float, float]:
    mongorestore, mongodump = shutil.which("mongorestore"), shutil.which("mongodump")
    if mongorestore is None or mongodump is None:
        return "bare raw insert", _timed(lambda: _bare(client, sample)), BAR_BARE
    with tempfile.NamedTemporaryFile(suffix=".archive") as archive:
        subprocess.run([mongodump, f"--uri={uri}", f"--db={SOURCE}", f"--archive={archive.name}"], check=True)
        command = [
            mongorestore,
            f"--uri={uri}",
            f"--archive={archive.name}",
            f"--nsFrom={SOURCE}.*",
            f"--nsTo={PEER}.*",
        ]
        return "mongorestore", _timed(lambda: subprocess.run(command, check=True)), BAR_MONGORESTORE


def _bare(client: Client, sample: dict[str, list[RawBSONDocument]]) -> None:
    threads = [
        threading.Thread(target=_insert, args=(client, PEER, name, found)) for name, found in sample.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in sample:
        client[PEER][name].create_index(INDEXED)


def _timed(run: Callable[[], object]) -> float:
    begun = perf_counter()
    run()
    return perf_counter() - begun


if __name__ == "__main__":
    print(table(rows(int(sys.argv[1]) if len(sys.argv) > 1 else SIZE_MIB)))
    print(f"\nMachine: {', '.join(f'{key} {value}' for key, value in machine().items())}")
