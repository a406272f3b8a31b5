"""Files with several names in a volume that is written to: each is archived with contents that it had."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from volume_restore_bed import DEEP, deep_folder

from lucid_storage.archive.volume_tar import EntryType
from lucid_storage.jobs.volume_tree import Tree, contents

FILE, LINK = EntryType.FILE, EntryType.HARDLINK


def read_while(tree: Tree, at: bytes, act: Callable[[], None]) -> dict[bytes, tuple[EntryType, bytes]]:
    """What each entry is, with a file's contents or a link's target; `act` runs when the reader has come to `at`."""
    found = {}
    for opened in tree.entries():
        entry = opened.entry
        if entry.path == at:
            act()
        data = b"".join(piece for _, piece in contents(opened))
        found[entry.path] = (entry.type, data if opened.descriptor is not None else entry.link)
    return found


def test_a_new_file_that_got_the_inode_of_a_removed_one_is_no_name_of_it(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old segment")
    os.link(tmp_path / "old", tmp_path / "old2")
    later = tmp_path / "z"
    later.mkdir()
    inode = (tmp_path / "old").stat().st_ino
    made: list[bytes] = []

    def rotate() -> None:
        (tmp_path / "old").unlink()
        (tmp_path / "old2").unlink()
        for number in range(1000):
            path = later / f"n{number}"
            path.write_text("new segment")
            if path.stat().st_ino == inode:
                os.link(path, later / "second")
                made.append(os.fsencode(path.name))
                return

    found = read_while(Tree(tmp_path), b"old2", rotate)
    if not made:
        pytest.skip("this file system gives no inode a second time so soon")
    assert found[b"z/" + made[0]] == (FILE, b"new segment")
    assert found[b"z/second"] == (LINK, b"z/" + made[0])


def test_a_file_that_is_written_to_between_its_names_is_counted_and_has_no_contents_of_before(
    tmp_path: Path,
) -> None:
    (tmp_path / "log").write_text("one")
    for name in ("y", "z"):
        (tmp_path / name).mkdir()
        os.link(tmp_path / "log", tmp_path / name / "log")
    tree = Tree(tmp_path)
    found = read_while(tree, b"y", lambda: os.truncate(tmp_path / "log", 2))
    assert found[b"log"] == (FILE, b"one")
    assert found[b"y/log"] == (FILE, b"on")
    assert found[b"z/log"] == (LINK, b"y/log")
    assert tree.changed == 1


def test_names_of_one_file_may_lie_deeper_than_a_path_is_long(tmp_path: Path) -> None:
    with deep_folder(tmp_path) as inside:
        os.close(os.open("one", os.O_WRONLY | os.O_CREAT, dir_fd=inside))
        os.link("one", "two", src_dir_fd=inside, dst_dir_fd=inside)
    assert read_while(Tree(tmp_path), b"", lambda: None)[DEEP + b"two"] == (LINK, DEEP + b"one")
