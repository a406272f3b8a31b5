"""Builders for tests of streams: keys, identities, packings, and data that look like documents."""

import os
import random
from pathlib import Path

from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.keys import Key
from lucid_storage.archive.manifest import ObjectKind, Packing, StoredObject
from lucid_storage.archive.streams import Identity, open_sink, open_source, packing_for
from lucid_storage.models.storage import Compression, CompressionAlgorithm

KEY = Key("2026-11", bytes(range(32)))
OTHER_KEY = Key("2026-11", bytes(range(1, 33)))
IDENTITY = Identity("5f0c7a3e-9d3f-4a49-8a43-0d9a3c0c7b11", ObjectKind.MONGODB_ARCHIVE)
PATH = "chain/backups/one/mongodb.archive"


def packing(algorithm: str = "zstd", key: Key | None = KEY) -> Packing:
    return packing_for(Compression(algorithm=CompressionAlgorithm(algorithm)), key)


def words(size: int, seed: int = 1) -> bytes:
    """Text that compresses like documents do, with some bytes that do not."""
    draw = random.Random(seed)
    vocabulary = [draw.randbytes(draw.randint(3, 9)).hex().encode() for _ in range(800)]
    data = bytearray()
    while len(data) < size:
        data += b" ".join(draw.choices(vocabulary, k=200)) + draw.randbytes(64)
    return bytes(data[:size])


def stored(
    folder: Path, data: bytes, algorithm: str = "zstd", key: Key | None = KEY, path: str = PATH
) -> StoredObject:
    sink = open_sink(FolderStore(folder), path, IDENTITY, packing(algorithm, key), key)
    sink.write(data)
    return sink.finish()


def read(
    folder: Path,
    algorithm: str = "zstd",
    key: Key | None = KEY,
    identity: Identity = IDENTITY,
    expected: StoredObject | None = None,
    path: str = PATH,
) -> bytes:
    source = open_source(FolderStore(folder), path, identity, packing(algorithm, key), key, expected)
    try:
        return source.read()
    finally:
        source.close()


def random_bytes(size: int) -> bytes:
    return os.urandom(size)
