"""Trees with everything that a file system can hold."""

from pathlib import Path

import pytest
from volume_trees import fill


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A folder as an application's volume is."""
    root = tmp_path / "volume"
    root.mkdir(mode=0o750)
    fill(root)
    return root
