"""The removal of what stands under one of our names in a volume."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from volume_restore_bed import deep_folder

from lucid_storage.stores.filesystem.removing import remove


def test_a_link_goes_and_not_what_it_leads_to(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    (other / "file").write_text("of somebody else")
    mine = tmp_path / "mine"
    (mine / "deep").mkdir(parents=True)
    (mine / "deep" / "link").symlink_to(other)
    (tmp_path / "top").symlink_to(other)
    for name in ("mine", "top", "absent"):
        remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert (other / "file").read_text() == "of somebody else"


def test_folders_may_lie_deeper_than_names_are_long(tmp_path: Path) -> None:
    with deep_folder(tmp_path):
        pass
    remove(tmp_path / "deep-in-here")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
def test_folders_that_keep_their_owner_out_go_without_privileges() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "half" / "locked" / "deeper").mkdir(parents=True)
        (root / "half" / "locked" / "deeper" / "file").write_text("x")
        for path in (root, *root.rglob("*")):
            os.chown(path, 65532, 65532)
        for name in ("half/locked/deeper", "half/locked", "half"):
            (root / name).chmod(0)
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(65532)
            os.setuid(65532)
            with suppress(BaseException):
                remove(root / "half")
                os._exit(0)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert list(root.iterdir()) == []
