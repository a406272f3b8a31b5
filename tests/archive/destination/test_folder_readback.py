"""A file of a folder is read back from its disk while it is written, and nothing that the disk did is missed."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest

from lucid_storage.archive import readback
from lucid_storage.archive.destination import Digest
from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.readback import ReadBack
from lucid_storage.errors import ArchiveDamagedError, DestinationError

STEP = 64 * 1024


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readback, "STEP_BYTES", STEP)


def digest(data: bytes) -> Digest:
    return Digest(len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("size", [0, 1, STEP - 1, STEP, STEP + 1, 3 * STEP, 20 * STEP + 17])
@pytest.mark.parametrize("piece", [STEP // 3, STEP, 5 * STEP])
def test_the_digest_is_of_the_whole_file(tmp_path: Path, size: int, piece: int) -> None:
    data = os.urandom(size)
    with (tmp_path / "file").open("w+b", buffering=0) as file:
        back = ReadBack(file.fileno(), threading.Event())
        for start in range(0, size, piece):
            back.wrote(file.write(data[start : start + piece]))
        assert back.finish() == digest(data)


def test_most_of_it_is_read_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, ends = os.urandom(10 * STEP + 5), [0]
    pread = os.pread
    before_the_end = threading.Event()

    def counted(file: int, size: int, at: int) -> bytes:
        found = pread(file, size, at)
        ends.append(at + len(found))
        if max(ends) >= 10 * STEP:
            before_the_end.set()
        return found

    monkeypatch.setattr(os, "pread", counted)
    writer = FolderStore(tmp_path).writer("a/object")
    writer.write(data)
    assert before_the_end.wait(20)
    writer.finish(digest(data))
    assert max(ends) == len(data)


def test_what_the_disk_changed_early_is_found_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, done = os.fdatasync, []

    def rots(file: int) -> None:
        sync(file)
        if not done:
            os.pwrite(file, b"rot", 100)
            done.append(True)

    monkeypatch.setattr(os, "fdatasync", rots)
    data = bytes(4 * STEP)
    writer = FolderStore(tmp_path).writer("a/object")
    writer.write(data)
    with pytest.raises(ArchiveDamagedError, match="did not keep what was written"):
        writer.finish(digest(data))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_error_that_the_kernel_told_once_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    def fails_once(_: int) -> None:
        if not told:
            told.append(True)
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails_once)
    data = bytes(4 * STEP)
    writer = FolderStore(tmp_path).writer("a/object")
    writer.write(data)
    with pytest.raises(DestinationError):
        writer.finish(digest(data))
    assert told
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_aborted_file_leaves_no_thread_that_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, go_on = threading.Event(), threading.Event()
    pread = os.pread

    def waits(file: int, size: int, at: int) -> bytes:
        reading.set()
        assert go_on.wait(20)
        return pread(file, size, at)

    monkeypatch.setattr(os, "pread", waits)
    writer = FolderStore(tmp_path).writer("a/object")
    writer.write(bytes(8 * STEP))
    assert reading.wait(20)
    ending = threading.Thread(target=writer.abort)
    ending.start()
    go_on.set()
    ending.join(20)
    assert not ending.is_alive()
    assert "read back" not in {thread.name for thread in threading.enumerate()}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
