"""Backups of MongoDB: `python -m bench.backup [MIB]`.

Ours is the whole worker, a process of its own: dump and oplog, zstd, AES-256-GCM, into a folder, confirmed. The peer is
`mongodump --gzip --archive` where that is on PATH, else a bare raw drain through gzip level 6 in one thread. The raw
stage (replies read, counted, hashed, framed) stands beside a bare `find_raw_batches` drain of the same collections.
"""

import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
import zlib
from operator import itemgetter
from pathlib import Path
from time import perf_counter
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient, UpdateOne

from bench.archive import documents
from bench.figures import MIB, Figure, machine, table
from bench.worker import run_worker
from lucid_storage.archive.content import documents as split
from lucid_storage.archive.manifest import ObjectKind, StoredObject
from lucid_storage.jobs.contract import BackupRun, Sink
from lucid_storage.jobs.mongodb_full import take_full
from lucid_storage.jobs.mongodb_scope import scope
from lucid_storage.models.backup import MongoSelection, ReadPreference
from lucid_storage.models.orders import BackupOrder
from testbed.paths import Instance
from testbed.stores.mongodb import MongoDB

SIZE_MIB = 512
SMALL_MIB, LARGE_MIB = 64, 1024
INCREMENTAL_MIB = 2048
"""Where a process's start, which is 0.4 s for either kind of backup, is no longer most of an incremental."""
COLLECTIONS = 4
BATCH = 2000
BAR_SPEED, BAR_RAW, BAR_SHARE, BAR_MIB, BAR_GROWTH = 4.0, 0.9, 0.05, 128, 1.1
CHANGED = 0.01
TURNS = 3
Client = MongoClient[dict[str, Any]]


def rows(mib: int = SIZE_MIB) -> list[Figure]:
    """All rows on one server; each database is read once before anything is measured."""
    with tempfile.TemporaryDirectory(prefix="lucid-bench-") as folder:
        root = Path(folder)
        (root / "keys").mkdir()
        (root / "keys" / "k").write_bytes(bytes(range(32)))
        server = MongoDB(Instance("bench-backup", root / "servers"), "mongodb", cache_gib=1.0, oplog_mib=2048)
        server.start()
        try:
            with server.client() as client:
                for size in {SMALL_MIB, mib, LARGE_MIB}:
                    _fill(client, size)
                    _drain(client, size)
                figures = [
                    *_whole(server, client, root, mib),
                    _raw(server, client, mib),
                    _memory(server, root),
                    _incremental(server, client, root, mib, bar=False),
                ]
                client.drop_database(_database(LARGE_MIB))
                _fill(client, INCREMENTAL_MIB)
                _drain(client, INCREMENTAL_MIB)
                return [*figures, _incremental(server, client, root, INCREMENTAL_MIB)]
        finally:
            server.stop()


def _whole(server: MongoDB, client: Client, root: Path, mib: int) -> list[Figure]:
    """The better of three each, turn by turn: what else the machine does hits both."""
    turns = [(_peer(server.uri, client, mib), _backup(server.uri, root, mib)) for _ in range(TURNS)]
    name, peer, peer_bytes = min((one for one, _ in turns), key=itemgetter(1))
    seconds, _, told = min((ours for _, ours in turns), key=itemgetter(0))
    peak = max(ours[1] for _, ours in turns)
    stored = told["engines"][0]["storedBytes"]
    return [
        Figure(
            "MongoDB full backup",
            f"{seconds:.1f} s",
            f"{name}: {peer:.1f} s",
            round(peer / seconds, 2),
            f"at least {BAR_SPEED}",
            ok=peer / seconds >= BAR_SPEED,
            note=f"{mib} MiB, {mib / seconds:.0f} MiB/s, process start included; all turns: "
            + ", ".join(f"{ours[0]:.1f} s beside {one[1]:.1f} s" for one, ours in turns),
        ),
        Figure(
            "its size",
            f"{stored / MIB:.1f} MiB",
            f"{name}: {peer_bytes / MIB:.1f} MiB",
            round(stored / peer_bytes, 3),
            "at most 1",
            ok=stored <= peer_bytes,
        ),
        Figure(
            "its peak memory",
            f"{peak / MIB:.0f} MiB",
            f"{BAR_MIB} MiB",
            round(peak / MIB / BAR_MIB, 2),
            "under 1",
            ok=peak < BAR_MIB * MIB,
        ),
    ]


def _raw(server: MongoDB, client: Client, mib: int) -> Figure:
    """The better of two each, turn by turn: what else the machine does hits both."""
    bare, ours = [], []
    for _ in range(2):
        bare.append(_drain(client, mib))
        ours.append(_raw_stage(server.uri, mib))
    ratio = min(bare) / min(ours)
    return Figure(
        "raw dump stage",
        f"{min(ours):.2f} s",
        f"bare drain: {min(bare):.2f} s",
        round(ratio, 2),
        f"at least {BAR_RAW}",
        ok=ratio >= BAR_RAW,
        note="replies read, counted, hashed (XXH3-128 a document), checksummed (CRC-64), framed",
    )


def _incremental(server: MongoDB, client: Client, root: Path, mib: int, *, bar: bool = True) -> Figure:
    """After one in a hundred documents changed, in the chain of a full that was just made."""
    full_seconds, _, full = _backup(server.uri, root, mib, keep=True)
    changed = 0
    for name in _names(client, mib):
        collection = client[_database(mib)][name]
        ids = [one["_id"] for one in collection.find({}, {"_id": 1})][:: int(1 / CHANGED)]
        for begin in range(0, len(ids), BATCH):
            writes = [
                UpdateOne({"_id": one}, {"$set": {"changed": uuid.uuid4().hex}})
                for one in ids[begin : begin + BATCH]
            ]
            collection.bulk_write(writes, ordered=False)
        changed += len(ids)
    before = _reads(client, mib)
    seconds, _, _ = _backup(server.uri, root, mib, kind="incremental", keep=True)
    reads = _reads(client, mib) - before
    slices = [path for path in (root / "destination").rglob("*.oplog") if "slices" in path.parts]
    stored = sum(path.stat().st_size for path in slices)
    share = stored / full["engines"][0]["storedBytes"]
    shutil.rmtree(root / "destination")
    return Figure(
        f"incremental after 1% of {mib} MiB",
        f"{seconds:.2f} s, {stored / MIB:.2f} MiB",
        f"full: {full_seconds:.1f} s",
        round(max(seconds / full_seconds, share), 3),
        f"at most {BAR_SHARE}" if bar else "",
        ok=(not bar or max(seconds / full_seconds, share) <= BAR_SHARE) and reads == 0,
        note=f"{changed} documents; bytes {share:.1%}, time {seconds / full_seconds:.1%} with the process's start;"
        f" {reads} reads of collections",
    )


def _memory(server: MongoDB, root: Path) -> Figure:
    peaks = [_backup(server.uri, root, size)[1] for size in (SMALL_MIB, LARGE_MIB)]
    ratio = peaks[1] / peaks[0]
    return Figure(
        "peak memory at 1 GiB",
        f"{peaks[1] / MIB:.0f} MiB",
        f"at 64 MiB: {peaks[0] / MIB:.0f} MiB",
        round(ratio, 3),
        f"at most {BAR_GROWTH}",
        ok=ratio <= BAR_GROWTH and peaks[1] < BAR_MIB * MIB,
    )


def _database(mib: int) -> str:
    return f"bench_{mib}"


def _names(client: Client, mib: int) -> list[str]:
    return sorted(client[_database(mib)].list_collection_names())


def _fill(client: Client, mib: int) -> None:
    for number in range(COLLECTIONS):
        data = documents(mib * MIB // COLLECTIONS)
        collection = client[_database(mib)][f"c{number}"]
        batch: list[Any] = []
        for raw in _complete(data):
            batch.append(RawBSONDocument(raw))
            if len(batch) == BATCH:
                collection.insert_many(batch, ordered=False)
                batch = []
        if batch:
            collection.insert_many(batch, ordered=False)


def _complete(data: bytes) -> list[bytes]:
    """The documents without the one that the size cut off."""
    at = 0
    while at + 4 <= len(data) and at + (size := int.from_bytes(data[at : at + 4], "little")) <= len(data):
        at += size
    return [bytes(raw) for raw in split(data[:at])]


def _drain(client: Client, mib: int, take: Any = len) -> float:
    began = perf_counter()
    for name in _names(client, mib):
        for reply in client[_database(mib)][name].find_raw_batches():
            take(reply)
    return perf_counter() - began


def _peer(uri: str, client: Client, mib: int) -> tuple[str, float, int]:
    """Name, seconds and bytes."""
    binary = shutil.which("mongodump")
    if binary is not None:
        began, size = perf_counter(), 0
        command = [binary, f"--uri={uri}", f"--db={_database(mib)}", "--gzip", "--archive"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            while data := process.stdout.read(MIB):
                size += len(data)
        return "mongodump --gzip", perf_counter() - began, size
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    written = [0]

    def pack(reply: bytes) -> None:
        written[0] += len(packer.compress(reply))

    seconds = _drain(client, mib, pack)
    return "bare drain, gzip -6", seconds, written[0] + len(packer.flush())


class _Nowhere:
    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        pass

    def finish(self) -> StoredObject:
        return StoredObject(
            kind=ObjectKind.MONGODB_ARCHIVE, path="", stored_bytes=0, sha256="", plain_bytes=0
        )

    def abort(self) -> None:
        pass


def _raw_stage(uri: str, mib: int) -> float:
    selection = MongoSelection(databases=[_database(mib)])
    order = BackupOrder.model_validate(_order(mib, "full"))

    def nowhere(kind: ObjectKind, part: str) -> Sink:
        return _Nowhere()

    run = BackupRun(order, nowhere, lambda _, __: None, lambda _: None, threading.Event())
    began = perf_counter()
    take_full(run, uri, scope(("mongodb",), selection, ("*",)), ReadPreference.PRIMARY)
    return perf_counter() - began


def _order(mib: int, kind: str) -> dict[str, Any]:
    return {
        "run": uuid.uuid4().hex[:12],
        "id": str(uuid.uuid4()),
        "owner": {
            "cluster": "c",
            "namespace": "n",
            "name": uuid.uuid4().hex,
            "uid": "u",
            "specHash": uuid.uuid4().hex,
        },
        "destination": {"root": ""},
        "chain": f"bench-{mib}",
        "keyId": "k",
        "deadlineSeconds": 1800,
        "type": kind,
        "engines": ["mongodb"],
        "verify": "Upload",
        "mongodb": {"databases": [_database(mib)]},
    }


def _backup(
    uri: str, root: Path, mib: int, *, kind: str = "full", keep: bool = False
) -> tuple[float, int, dict[str, Any]]:
    """Seconds, peak in bytes, and the result of one worker."""
    measured = run_worker("backup", uri, root, _order(mib, kind))
    if not keep:
        shutil.rmtree(root / "destination")
    return measured


def _reads(client: Client, mib: int) -> int:
    """How often the server read in one of the collections."""
    totals = client.admin.command("top")["totals"]
    return sum(
        int(totals[f"{_database(mib)}.{name}"][what]["count"])
        for name in _names(client, mib)
        for what in ("queries", "getmore")
    )


def main() -> int:
    """The table; 1 when a bar is missed."""
    figures = rows(int(sys.argv[1]) if len(sys.argv) > 1 else SIZE_MIB)
    print(table(figures))
    print(f"\nMachine: {', '.join(f'{key} {value}' for key, value in machine().items())}")
    return 0 if all(figure.ok for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
