"""What a walk of a volume must not miss: data on a failing disk, other file systems, names that look like ours."""

import ctypes
import errno
import os
import subprocess
from pathlib import Path

import pytest

from lucid_storage.errors import LucidError
from lucid_storage.jobs.volume_tree import Tree, contents, digest_of
from lucid_storage.stores.filesystem.renaming import rename_new
from lucid_storage.stores.filesystem.tree import data_ranges


def refuse(monkeypatch: pytest.MonkeyPatch, code: int, at: int) -> None:
    """A file system that answers so when it is asked for data from this offset on."""
    real = os.lseek

    def lseek(descriptor: int, offset: int, whence: int) -> int:
        if whence == os.SEEK_DATA and offset >= at:
            raise OSError(code, os.strerror(code))
        return real(descriptor, offset, whence)

    monkeypatch.setattr(os, "lseek", lseek)


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """Data, a hole, data."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(b"begin" * 1000)
        file.seek(1 << 20)
        file.write(b"end")
        file.truncate(2 << 20)
    return path


@pytest.mark.parametrize("at", [0, 8192])
def test_a_disk_error_while_data_are_looked_for_is_no_hole(
    sparse: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    refuse(monkeypatch, errno.EIO, at)
    with pytest.raises(LucidError, match="errno 5"):
        digest_of(Tree(sparse.parent), lambda: None)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_where_holes_are_not_known_the_whole_file_is_read(
    sparse: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    refuse(monkeypatch, code, 0)
    for opened in Tree(sparse.parent).entries():
        if opened.descriptor is not None:
            assert opened.entry.ranges is None
            assert b"".join(data for _, data in contents(opened)) == sparse.read_bytes()


def test_a_hole_that_is_made_while_it_is_looked_at_takes_nothing_else_along(
    sparse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, begun = os.lseek, list[int]()

    def lseek(descriptor: int, offset: int, whence: int) -> int:
        if whence == os.SEEK_HOLE and not begun:
            begun.append(offset)
            return offset  # somebody punched it after SEEK_DATA had been here
        return real(descriptor, offset, whence)

    monkeypatch.setattr(os, "lseek", lseek)
    with sparse.open("rb") as file:
        assert data_ranges(file.fileno(), 2 << 20) is None, "the whole file is read"


def test_a_hole_up_to_the_end_is_one(sparse: Path) -> None:
    with sparse.open("rb") as file:
        ranges = data_ranges(file.fileno(), 2 << 20)
    assert ranges is not None
    assert [offset for offset, _ in ranges] == [0, 1 << 20]
    assert sum(ranges[-1]) < 2 << 20


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount")
def test_another_file_system_in_the_volume_is_an_error_and_no_empty_folder(tmp_path: Path) -> None:
    nested = tmp_path / "nested"
    nested.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(nested)], check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("this machine mounts no tmpfs")
    try:
        (nested / "file").write_text("x")
        with pytest.raises(LucidError, match="another file system"):
            digest_of(Tree(tmp_path), lambda: None)
    finally:
        subprocess.run(["umount", str(nested)], check=True)


@pytest.mark.parametrize("known", [True, False])
def test_a_rename_replaces_nothing_even_where_the_kernel_does_not_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    if not known:
        monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: object())
    one, other, free = (os.fsencode(tmp_path / name) for name in ("one", "other", "free"))
    (tmp_path / "one").write_text("one")
    (tmp_path / "other").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        rename_new(one, other)
    rename_new(one, free)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["free", "other"]
    with pytest.raises(FileNotFoundError):
        rename_new(one, one + b"2")
