"""The archive of a volume: stock tar reads it, ours reads it back, and whatever is not ours is refused."""

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from volume_trees import OLD_NS, add_socket, blocks, described, fill

from lucid_storage.archive.volume_digest import ContentHash
from lucid_storage.archive.volume_tar import END, XATTR, EntryType, TarEntry, _extended, header
from lucid_storage.archive.volume_untar import TarReader
from lucid_storage.errors import ArchiveDamagedError, LucidError
from lucid_storage.jobs.contract import Sink, Source
from lucid_storage.jobs.volume_archive import Archived, hash_archive, write_archive
from lucid_storage.jobs.volume_extract import Extraction
from lucid_storage.jobs.volume_tree import Tree, digest_of
from lucid_storage.stores.filesystem.tree import UnreadableError


def go_on() -> None:
    """Nobody wants the work to end."""


def unheard(size: int, files: int) -> None:
    """Nobody watches the progress."""


def archive(root: Path) -> tuple[bytes, Archived]:
    sink = io.BytesIO()
    archived = write_archive(root, cast(Sink, sink), go_on, unheard)
    return sink.getvalue(), archived


def unpack(data: bytes, target: Path) -> None:
    target.mkdir()
    Extraction(target, go_on, unheard).run(TarReader(io.BytesIO(data).read))


def test_names_of_attributes_in_archives_without_escapes_are_read_as_they_are() -> None:
    name = b"user.100%25"
    entry = TarEntry(b"f", EntryType.FILE, 0o644, 0, 0, 0, xattrs=((name, b"1"),))
    before = _extended({XATTR + name: b"1"}) + header(replace(entry, xattrs=()))
    for data in (before, header(entry)):
        (found,) = TarReader(io.BytesIO(data + END).read).entries()
        assert found.xattrs == entry.xattrs


def test_stock_tar_reads_everything_back(volume: Path, tmp_path: Path) -> None:
    data, _ = archive(volume)
    (tmp_path / "v.tar").write_bytes(data)
    (tmp_path / "out").mkdir()
    command = ["tar", "--extract", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-p"]
    done = subprocess.run(
        [*command, "-C", str(tmp_path / "out"), "-f", str(tmp_path / "v.tar")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert described(tmp_path / "out") == described(volume)
    assert (tmp_path / "out").stat().st_mode == volume.stat().st_mode
    assert blocks(tmp_path / "out" / "sparse") < 1_000_000


def test_python_reads_the_same_names(volume: Path) -> None:
    data, _ = archive(volume)
    with tarfile.open(fileobj=io.BytesIO(data)) as read:
        names = {os.fsencode(member.name) for member in read.getmembers()}
    assert names == {*described(volume), b"."}


def test_it_comes_back_as_it_was(volume: Path, tmp_path: Path) -> None:
    data, archived = archive(volume)
    unpack(data, tmp_path / "out")
    assert described(tmp_path / "out") == described(volume)
    assert blocks(tmp_path / "out" / "sparse") < 1_000_000
    hashes = {
        archived.digest.hexdigest(),
        hash_archive(cast(Source, io.BytesIO(data))).hexdigest(),
        digest_of(Tree(tmp_path / "out"), go_on).hexdigest(),
        digest_of(Tree(volume), go_on).hexdigest(),
    }
    assert len(hashes) == 1


@pytest.mark.parametrize(
    "change",
    ["byte", "mode", "name", "link", "attribute", "length", "gone", "more"],
)
def test_any_change_changes_the_hash(volume: Path, change: str) -> None:
    before = digest_of(Tree(volume), go_on).hexdigest()
    (volume / "data").chmod(0o755)
    journal = volume / "data" / "deep" / "journal"
    match change:
        case "byte":
            with journal.open("r+b") as file:
                file.seek(150_000)
                old = file.read(1)
                file.seek(150_000)
                file.write(bytes([old[0] ^ 1]))
            os.utime(journal, ns=(OLD_NS, OLD_NS))
        case "mode":
            journal.chmod(0o600)
        case "name":
            journal.rename(journal.with_name("journal2"))
            os.utime(journal.parent, ns=(OLD_NS, OLD_NS))
        case "link":
            (volume / "link").unlink()
            (volume / "link").symlink_to("data/deep/second")
        case "attribute":
            os.setxattr(volume / "first", "user.note", b"another")
        case "length":
            os.truncate(volume / "hole", 3_000_001)
            os.utime(volume / "hole", ns=(OLD_NS, OLD_NS))
        case "gone":
            (volume / "nothing").unlink()
        case "more":
            (volume / "new").write_text("")
    (volume / "data").chmod(0o555)
    assert digest_of(Tree(volume), go_on).hexdigest() != before


def test_a_cut_archive_is_refused_wherever_it_is_cut(volume: Path) -> None:
    shutil.rmtree(volume / "data", ignore_errors=True)
    data, _ = archive(volume)
    for size in [
        0,
        1,
        511,
        512,
        513,
        *range(1024, len(data) - 512, max(512, len(data) // 60 // 512 * 512 + 7)),
    ]:
        with pytest.raises(ArchiveDamagedError):
            hash_archive(cast(Source, io.BytesIO(data[:size])))


def test_what_lies_elsewhere_is_never_written(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "theirs").write_text("theirs")
    top = header(TarEntry(b"", EntryType.DIRECTORY, 0o755, 0, 0, 0))
    link = header(TarEntry(b"a", EntryType.SYMLINK, 0o777, 0, 0, 0, link=os.fsencode(outside)))
    through = header(TarEntry(b"a/b", EntryType.FILE, 0o644, 0, 0, 0))
    for number, evil in enumerate(
        (
            top + link + through,
            top + header(TarEntry(b"../b", EntryType.FILE, 0o644, 0, 0, 0)),
            top + header(TarEntry(b"/b", EntryType.FILE, 0o644, 0, 0, 0)),
            top + link + header(TarEntry(b"c", EntryType.HARDLINK, 0o644, 0, 0, 0, link=b"a/b")),
            top + header(TarEntry(b"c", EntryType.HARDLINK, 0o644, 0, 0, 0, link=b"../outside/theirs")),
            top
            + header(
                TarEntry(b"c", EntryType.HARDLINK, 0o644, 0, 0, 0, link=os.fsencode(outside / "theirs"))
            ),
            top + header(TarEntry(b"c", EntryType.HARDLINK, 0o644, 0, 0, 0)),
            through,
        )
    ):
        with pytest.raises(LucidError):
            unpack(evil + END, tmp_path / f"out{number}")
    (theirs,) = outside.iterdir()
    assert theirs.stat().st_nlink == 1


def test_sockets_are_left_out_and_counted(volume: Path) -> None:
    add_socket(volume)
    data, archived = archive(volume)
    assert archived.tree.sockets == 1
    assert b"socket" not in data


def test_a_file_that_changes_while_it_is_read_is_counted(volume: Path, tmp_path: Path) -> None:
    def write_meanwhile(size: int, files: int) -> None:
        if size == 300_001:
            os.truncate(volume / "data" / "deep" / "journal", 10)

    sink = io.BytesIO()
    (volume / "data").chmod(0o755)
    archived = write_archive(volume, cast(Sink, sink), go_on, write_meanwhile)
    assert archived.tree.changed == 1
    unpack(sink.getvalue(), tmp_path / "out")  # and the archive is whole


def test_ext4s_own_folder_is_left_out(volume: Path) -> None:
    (volume / "lost+found").mkdir()
    data, _ = archive(volume)
    assert b"lost+found" not in data


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_a_folder_that_may_not_be_read_is_an_error_and_not_left_out(mode: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(mode)
        Path(folder, "closed").mkdir(mode=0o700)
        child = os.fork()
        if child == 0:
            os.setuid(65532)
            try:
                list(Tree(Path(folder)).entries())
            except UnreadableError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@given(
    st.lists(st.tuples(st.integers(0, 400_000), st.binary(min_size=1, max_size=70_000)), max_size=6),
    st.integers(0, 300_000),
)
def test_holes_and_zeros_hash_the_same(pieces: list[tuple[int, bytes]], more: int) -> None:
    whole = bytearray()
    for offset, data in pieces:
        whole.extend(bytes(max(0, offset + len(data) - len(whole))))
        whole[offset : offset + len(data)] = data
    whole.extend(bytes(more))
    dense, sparse = ContentHash(), ContentHash()
    for at in range(0, len(whole), 100_000):
        dense.update(at, bytes(whole[at : at + 100_000]))
    for at in range(0, len(whole), 4096):
        if any(whole[at : at + 4096]):
            sparse.update(at, bytes(whole[at : at + 4096]))
    assert dense.hexdigest(len(whole)) == sparse.hexdigest(len(whole))


def test_different_contents_hash_differently() -> None:
    seen = set()
    for data in (b"", b"\0", b"a", b"a\0", b"\0a", bytes(65536) + b"a", b"a" + bytes(65536)):
        content = ContentHash()
        content.update(0, data)
        seen.add(content.hexdigest(len(data)))
    assert len(seen) == 7
    assert hashlib.sha256(b"a").hexdigest() not in seen


def test_equal_trees_make_equal_archives(tmp_path: Path, volume: Path) -> None:
    first, _ = archive(volume)
    again, _ = archive(volume)
    assert first == again
    other = tmp_path / "other"
    other.mkdir()
    fill(other)
    assert archive(other)[0] != first  # random contents
