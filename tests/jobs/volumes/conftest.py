"""Trees with everything that a file system can hold."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from volume_restore_bed import NOBODY, Archive, archive_of
from volume_trees import fill


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A folder as an application's volume is."""
    root = tmp_path / "volume"
    root.mkdir(mode=0o750)
    fill(root)
    return root


@pytest.fixture
def archived(volume: Path) -> Archive:
    """That volume."""
    return archive_of(volume)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """An empty volume."""
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


@pytest.fixture
def theirs() -> Iterator[Path]:
    """An empty volume of a worker without privileges, which it can reach. Needs root."""
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, NOBODY, NOBODY)
        yield Path(folder)


@pytest.fixture
def plain_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system without attributes and access lists."""
    place = tmp_path / "ram"
    place.mkdir()
    mounting = subprocess.run(["mount", "-t", "ramfs", "ramfs", str(place)], check=False, capture_output=True)
    if mounting.returncode != 0:
        pytest.skip("this machine mounts no ramfs")
    yield place
    subprocess.run(["umount", str(place)], check=True)
