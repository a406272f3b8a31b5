"""The stages of an archive, each alone and all joined: `python -m bench.archive [MIB]`.

The data are BSON documents of two kinds, as orders and events have them, of which the same 64 MiB are written again
and again: a frame of compression sees no further than 2 MiB. The peer is gzip of level 6 in one thread, which is what
mongodump --gzip uses.
"""

import os
import random
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter, process_time

import bson

from bench.figures import MIB, Figure, machine, table
from lucid_storage.archive.blackhole import BlackHoleStore
from lucid_storage.archive.compressing import compressor
from lucid_storage.archive.destination import ObjectStore
from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.keys import Key
from lucid_storage.archive.manifest import ObjectKind, StoredObject
from lucid_storage.archive.sealing import Sealer
from lucid_storage.archive.streams import Identity, open_sink, open_source, packing_for
from lucid_storage.models.storage import Compression, CompressionAlgorithm

SIZE_MIB = 512
SAMPLE_MIB = 64
BATCH_BYTES = 4 * MIB
"""What a reply of the server holds."""
KEY = Key("bench", bytes(range(32)))
IDENTITY = Identity("bench", ObjectKind.MONGODB_ARCHIVE)
LEVELS = ((CompressionAlgorithm.ZSTD, 1), (CompressionAlgorithm.ZSTD, 3), (CompressionAlgorithm.GZIP, 6))


def documents(size: int) -> bytes:
    """Documents back to back."""
    draw, start = random.Random(7), datetime(2026, 1, 1, tzinfo=UTC)
    words = [draw.randbytes(draw.randint(2, 5)).hex() for _ in range(4000)]
    data, number = bytearray(), 0
    while len(data) < size:
        number += 1
        at = start + timedelta(seconds=number)
        order = {
            "_id": bson.ObjectId(),
            "customer": draw.randint(1, 500_000),
            "state": draw.choice(("open", "paid", "shipped")),
            "lines": [
                {"sku": draw.choice(words), "quantity": draw.randint(1, 9), "price": draw.random() * 100}
                for _ in range(draw.randint(1, 4))
            ],
            "note": " ".join(draw.choices(words, k=12)),
            "at": at,
        }
        event = {
            "_id": number,
            "source": draw.choice(words),
            "hash": draw.randbytes(32),
            "value": draw.random(),
        }
        data += bson.encode(order) + bson.encode(event)
    return bytes(data[:size])


def batches(sample: bytes, mib: int) -> Iterator[memoryview]:
    """So many MiB of the sample, in batches."""
    left, view = mib * MIB, memoryview(sample)
    while left > 0:
        for start in range(0, min(left, len(sample)), BATCH_BYTES):
            yield view[start : start + BATCH_BYTES]
        left -= len(sample)


def rows(mib: int = SIZE_MIB) -> list[Figure]:
    """One row a stage, then the joined ones."""
    sample = documents(SAMPLE_MIB * MIB)
    packed = b"".join(_compressed(sample, mib=SAMPLE_MIB, algorithm=CompressionAlgorithm.ZSTD, level=None))
    peer = _timed(lambda: zlib.compressobj(6, zlib.DEFLATED, 31).compress(sample[: 16 * MIB])).wall
    figures = [
        _stage(f"compress, {name} {level}", mib, _compressing(sample, mib, name, level))
        for name, level in LEVELS
    ]
    figures += [
        _stage("seal", mib, lambda: _seal(packed, mib)),
        _stage("write and sync a folder", mib, lambda: _folder(packed, mib)),
    ]
    for name, run in (
        ("joined, black hole", lambda: _joined(BlackHoleStore(), sample, mib)),
        ("joined, folder", lambda: _in_folder(sample, mib)),
    ):
        figures.append(_against(name, mib, run, peer * mib / 16))
    return [*figures, _stage("read back", mib, *_reading(sample, mib))]


class _Time:
    def __init__(self, wall: float, cpu: float, out: int) -> None:
        self.wall, self.cpu, self.out = wall, cpu, out


def _timed(run: Callable[[], object]) -> _Time:
    wall, cpu = perf_counter(), process_time()
    result = run()
    out = result if isinstance(result, int) else 0
    return _Time(perf_counter() - wall, process_time() - cpu, out)


def _stage(
    name: str, mib: int, run: Callable[[], object], after: Callable[[], object] = lambda: None
) -> Figure:
    time = _timed(run)
    after()
    ratio = f", {mib * MIB / time.out:.2f} to 1" if time.out else ""
    told = f"{time.wall:.2f} s, {mib / time.wall:.0f} MiB/s, {time.cpu:.2f} s of CPU{ratio}"
    return Figure(f"archive, {name}", told, "", None, "", ok=True)


def _against(name: str, mib: int, run: Callable[[], int], peer_seconds: float) -> Figure:
    time = _timed(run)
    told = f"{time.wall:.2f} s, {mib / time.wall:.0f} MiB/s, {time.cpu:.2f} s of CPU, {mib * MIB / time.out:.2f} to 1"
    times = peer_seconds / time.wall
    return Figure(
        f"archive, {name}",
        told,
        f"{peer_seconds:.2f} s, gzip 6",
        times,
        "at least 4 times faster",
        times >= 4,
    )


def _compressed(
    sample: bytes, mib: int, algorithm: CompressionAlgorithm, level: int | None
) -> Iterator[bytes]:
    stream = compressor(algorithm, level)
    for batch in batches(sample, mib):
        yield stream.write(batch)
    yield stream.finish()


def _compressing(sample: bytes, mib: int, algorithm: CompressionAlgorithm, level: int) -> Callable[[], int]:
    return lambda: sum(len(piece) for piece in _compressed(sample, mib, algorithm, level))


def _seal(packed: bytes, mib: int) -> int:
    sealer, size = Sealer(KEY, IDENTITY.associated_data), 0
    for _ in range(mib // SAMPLE_MIB):
        for start in range(0, len(packed), MIB):
            size += sum(len(piece) for piece in sealer.write(memoryview(packed)[start : start + MIB]))
    return size + sum(len(piece) for piece in sealer.finish())


def _folder(packed: bytes, mib: int) -> int:
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "file").open("wb") as file:
        for _ in range(mib // SAMPLE_MIB):
            file.write(packed)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def _write(store: ObjectStore, sample: bytes, mib: int) -> StoredObject:
    sink = open_sink(store, "archive", IDENTITY, packing_for(Compression(), KEY), KEY)
    for batch in batches(sample, mib):
        sink.write(batch)
    return sink.finish()


def _joined(store: ObjectStore, sample: bytes, mib: int) -> int:
    return _write(store, sample, mib).stored_bytes


def _in_folder(sample: bytes, mib: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return _joined(FolderStore(Path(folder)), sample, mib)


def _reading(sample: bytes, mib: int) -> tuple[Callable[[], None], Callable[[], None]]:
    folder = tempfile.TemporaryDirectory()
    store = FolderStore(Path(folder.name))
    stored = _write(store, sample, mib)

    def read() -> None:
        source = open_source(store, "archive", IDENTITY, packing_for(Compression(), KEY), KEY, stored)
        while source.read(MIB):
            pass
        source.close()

    return read, folder.cleanup


if __name__ == "__main__":
    print(table(rows(int(sys.argv[1]) if len(sys.argv) > 1 else SIZE_MIB)))
    print(f"\nMachine: {', '.join(f'{key} {value}' for key, value in machine().items())}")
