"""Streams: what goes in comes out, whatever is damaged is refused, and memory, errors and aborts are bounded."""

import gc
import hashlib
import os
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import psutil
import pytest
from archive_bed import IDENTITY, KEY, OTHER_KEY, PATH, packing, read, stored, words
from hypothesis import given
from hypothesis import strategies as st

from lucid_storage.archive.blackhole import BlackHoleStore, BlackHoleWriter
from lucid_storage.archive.destination import Digest
from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.keys import Key
from lucid_storage.archive.manifest import ObjectKind
from lucid_storage.archive.streams import AbortedError, Identity, open_sink, open_source
from lucid_storage.errors import (
    ArchiveDamagedError,
    DestinationError,
    DestinationFullError,
    DestinationUnavailableError,
    KeyMissingError,
)

PACKINGS = [(algorithm, key) for algorithm in ("zstd", "gzip", "none") for key in (KEY, None)]


@pytest.mark.parametrize(("algorithm", "key"), PACKINGS)
@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_what_was_written_comes_back(tmp_path: Path, algorithm: str, key: Key | None, size: int) -> None:
    data = words(size)

    there = stored(tmp_path, data, algorithm, key)

    file = tmp_path / PATH
    assert there.plain_bytes == size and there.stored_bytes == file.stat().st_size
    assert there.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert there.kind is ObjectKind.MONGODB_ARCHIVE and there.path == PATH
    assert read(tmp_path, algorithm, key, expected=there) == data
    assert read(tmp_path, algorithm, key) == data, "a cold start knows no checksum"


@given(st.lists(st.integers(0, 1_200_000), max_size=6), st.integers(1, 2_000_000))
def test_it_does_not_matter_in_what_pieces(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], size: int
) -> None:
    folder = tmp_path_factory.mktemp("pieces")
    pieces = [bytes([number]) * step for number, step in enumerate(steps)]
    sink = open_sink(FolderStore(folder), PATH, IDENTITY, packing(), KEY)
    for number, piece in enumerate(pieces):
        sink.write((bytes, bytearray, memoryview)[number % 3](piece))
    there = sink.finish()
    source = open_source(FolderStore(folder), PATH, IDENTITY, packing(), KEY, there)

    taken: list[bytes] = []
    while piece := source.read(size):
        assert len(piece) <= size
        taken.append(piece)

    assert b"".join(taken) == b"".join(pieces)
    assert source.read(size) == source.read() == b""
    source.close()


def test_a_buffer_may_be_used_again_after_write(tmp_path: Path) -> None:
    sink = open_sink(FolderStore(tmp_path), PATH, IDENTITY, packing(), KEY)
    for number in range(5):
        buffer = bytearray([number]) * 1_500_000
        sink.write(buffer)
        buffer[:] = bytes(len(buffer))
        buffer = bytearray([number]) * 10
        sink.write(memoryview(buffer))
        buffer[:] = bytes(len(buffer))
    sink.finish()

    assert read(tmp_path) == b"".join(bytes([number]) * 1_500_010 for number in range(5))


def refused(folder: Path, **options: object) -> None:
    with pytest.raises(ArchiveDamagedError):
        read(folder, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("algorithm", "key"), PACKINGS)
def test_an_archive_cut_at_any_byte_is_refused(tmp_path: Path, algorithm: str, key: Key | None) -> None:
    there = stored(tmp_path, words(150), algorithm, key)
    file = tmp_path / PATH
    content = file.read_bytes()

    for length in range(len(content)):
        file.write_bytes(content[:length])
        refused(tmp_path, algorithm=algorithm, key=key, expected=there)
        if (algorithm, key) != ("none", None):  # plain bytes have no end of their own
            refused(tmp_path, algorithm=algorithm, key=key)


@pytest.mark.parametrize(("algorithm", "key"), PACKINGS)
def test_an_archive_with_a_flipped_bit_is_refused(tmp_path: Path, algorithm: str, key: Key | None) -> None:
    there = stored(tmp_path, words(100), algorithm, key)
    file = tmp_path / PATH
    content = file.read_bytes()

    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        file.write_bytes(flipped)
        refused(tmp_path, algorithm=algorithm, key=key, expected=there)
        if key is not None:
            refused(tmp_path, algorithm=algorithm, key=key)


def test_another_objects_archive_is_refused(tmp_path: Path) -> None:
    stored(tmp_path, words(1000))

    refused(tmp_path, identity=replace(IDENTITY, backup="another"))
    refused(tmp_path, identity=replace(IDENTITY, kind=ObjectKind.REDIS_RDB))
    refused(tmp_path, identity=replace(IDENTITY, part="another"))
    refused(tmp_path, key=OTHER_KEY)


def test_a_replaced_archive_is_refused_though_it_is_whole(tmp_path: Path) -> None:
    there = stored(tmp_path, words(1000), "zstd", None)
    stored(tmp_path, words(1000, seed=2), "zstd", None, "other")
    (tmp_path / "other").replace(tmp_path / PATH)

    refused(tmp_path, key=None, expected=there)


def test_a_missing_object_is_damage(tmp_path: Path) -> None:
    refused(tmp_path)


def test_an_error_stays_an_error(tmp_path: Path) -> None:
    """A second read after a failed one must not look like the end."""
    there = stored(tmp_path, words(3_000_000))
    with (tmp_path / PATH).open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"XXXXX")
    source = open_source(FolderStore(tmp_path), PATH, IDENTITY, packing(), KEY, there)

    for _ in range(3):
        with pytest.raises(ArchiveDamagedError):
            source.read()
    source.close()


def test_no_two_identities_are_alike() -> None:
    with pytest.raises(ValueError, match="line break"):
        _ = Identity("a\nmongodb.archive", ObjectKind.MONGODB_ARCHIVE).associated_data


def test_an_encrypted_object_is_neither_written_nor_read_without_its_key(tmp_path: Path) -> None:
    stored(tmp_path, words(10))
    for open_one in (open_sink, open_source):
        with pytest.raises(KeyMissingError):
            open_one(FolderStore(tmp_path), PATH, IDENTITY, packing(), None)
    assert sorted(tmp_path.rglob("*.archive")) == [tmp_path / PATH]


class FailingStore(BlackHoleStore):
    """Fails after so many bytes, or with the end."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after
        self.aborted = threading.Event()

    def writer(self, path: str) -> "FailingWriter":
        return FailingWriter(self, path)


class FailingWriter(BlackHoleWriter):
    def __init__(self, store: FailingStore, path: str) -> None:
        super().__init__(store, path)
        self._failing = store
        self._left = store.after

    def write(self, data: bytes, /) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise DestinationFullError("The destination is full.")
        super().write(data)

    def finish(self, digest: Digest) -> None:
        raise DestinationUnavailableError("The destination went away.")

    def abort(self) -> None:
        self._failing.aborted.set()
        super().abort()


def test_what_fails_in_the_destination_is_raised_to_whoever_writes() -> None:
    store = FailingStore(2_000_000)
    sink = open_sink(store, PATH, IDENTITY, packing(), KEY)

    with pytest.raises(DestinationFullError):
        for _ in range(100):
            sink.write(os.urandom(500_000))
    with pytest.raises(DestinationFullError):
        sink.finish()
    assert store.aborted.is_set() and not store.objects
    sink.abort()


def test_what_fails_at_the_end_is_raised_by_finish() -> None:
    store = FailingStore(10**9)
    sink = open_sink(store, PATH, IDENTITY, packing(), KEY)
    sink.write(b"data")

    with pytest.raises(DestinationUnavailableError):
        sink.finish()
    assert store.aborted.is_set() and not store.objects


def test_an_abort_ends_a_writer_that_waits_and_leaves_nothing(tmp_path: Path) -> None:
    class Stuck(BlackHoleStore):
        reached = threading.Event()

        def writer(self, path: str) -> BlackHoleWriter:
            outer = self

            class Writer(BlackHoleWriter):
                def write(self, data: bytes, /) -> None:
                    del data
                    outer.reached.set()
                    self._given_up.wait(60)
                    raise DestinationError("The upload was given up.")

            return Writer(self, path)

    store, errors = Stuck(), []
    sink = open_sink(store, PATH, IDENTITY, packing(), KEY)

    def produce() -> None:
        try:
            while True:
                sink.write(os.urandom(1_000_000))
        except DestinationError as error:
            errors.append(error)

    thread = threading.Thread(target=produce)
    thread.start()
    assert store.reached.wait(30)
    begun = monotonic()
    sink.abort()
    thread.join(10)

    assert monotonic() - begun < 5 and len(errors) == 1
    assert isinstance(errors[0], AbortedError) and not store.objects


def test_abort_after_finish_is_harmless(tmp_path: Path) -> None:
    sink = open_sink(FolderStore(tmp_path), PATH, IDENTITY, packing(), KEY)
    sink.write(b"data")
    sink.finish()

    sink.abort()

    assert read(tmp_path) == b"data"


def test_nothing_is_taken_after_finish(tmp_path: Path) -> None:
    sink = open_sink(FolderStore(tmp_path), PATH, IDENTITY, packing(), KEY)
    sink.finish()

    with pytest.raises(ValueError, match="after the end"):
        sink.write(b"more")


def test_closing_early_ends_the_threads(tmp_path: Path) -> None:
    stored(tmp_path, os.urandom(30_000_000), "none")
    before = threading.active_count()
    source = open_source(FolderStore(tmp_path), PATH, IDENTITY, packing("none"), KEY)
    assert source.read(10)

    source.close()

    assert threading.active_count() == before
    with pytest.raises(AbortedError):
        while source.read(1_000_000):
            pass


def test_a_slow_destination_slows_the_writer_down() -> None:
    """What is written but not taken is bounded, so that memory is."""

    class Slow(BlackHoleStore):
        open_gate = threading.Event()
        taken = 0

        def writer(self, path: str) -> BlackHoleWriter:
            outer = self

            class Writer(BlackHoleWriter):
                def write(self, data: bytes, /) -> None:
                    outer.open_gate.wait(60)
                    super().write(data)

            return Writer(self, path)

    store, written = Slow(), 0
    sink = open_sink(store, PATH, IDENTITY, packing("none"), KEY)
    block = os.urandom(1_000_000)
    done = threading.Event()

    def produce() -> None:
        nonlocal written
        for _ in range(50):
            sink.write(block)
            written += len(block)
        done.set()

    thread = threading.Thread(target=produce)
    thread.start()
    assert not done.wait(1)
    assert written < 12_000_000

    store.open_gate.set()
    thread.join(30)
    assert sink.finish().plain_bytes == 50_000_000


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    process, block = psutil.Process(), words(4_000_000)
    stored(tmp_path, block)  # whatever is loaded once
    gc.collect()
    before, most = process.memory_info().rss, 0
    sink = open_sink(BlackHoleStore(), PATH, IDENTITY, packing(), KEY)
    for _ in range(100):
        sink.write(block)
        most = max(most, process.memory_info().rss)
    assert sink.finish().plain_bytes == 400_000_000

    assert most - before < 30 * 1024 * 1024


def test_a_folder_that_is_full_says_so_and_keeps_nothing(small_volume: Path) -> None:
    store = FolderStore(small_volume)
    sink = open_sink(store, PATH, IDENTITY, packing("none"), KEY)

    with pytest.raises(DestinationFullError, match=r"is full .* make room"):
        for _ in range(100):
            sink.write(os.urandom(1_000_000))
        sink.finish()

    assert list(store.list("")) == []
    assert not [file for file in small_volume.rglob("*") if file.is_file()]
    assert store.delete_abandoned("", datetime.now(UTC)) == 0
