"""Trees with everything that a file system can hold."""

import os
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
