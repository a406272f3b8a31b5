"""The reader of a claim's use."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from volume_trees import blocks

from lucid_storage.jobs.volume_usage import added_up
from lucid_storage.models.volume_work import VolumeUsageResult

OWNER = {"cluster": "c", "namespace": "n", "name": "v", "uid": "u", "specHash": ""}


def asked(folder: Path, *, own: bool, name: str = "volume") -> VolumeUsageResult:
    """What the worker tells, run as a Job runs it."""
    order = {
        "run": "r",
        "owner": OWNER,
        "deadlineSeconds": 60,
        "folder": name,
        "ownFileSystem": own,
    }
    environ = {
        **os.environ,
        "LUCID_ORDER": json.dumps(order),
        "LUCID_VOLUMES": str(folder),
        "LUCID_TERMINATION_PATH": str(folder / "told"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "lucid_storage", "volume-usage"], env=environ, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return VolumeUsageResult.model_validate_json((folder / "told").read_text())


def test_a_file_system_of_its_own_tells_its_figures(volume: Path) -> None:
    told = asked(volume.parent, own=True)
    figures = os.statvfs(volume)
    assert told.ok
    assert told.capacity_bytes == figures.f_blocks * figures.f_frsize
    assert told.inodes == figures.f_files
    assert abs(told.used_bytes - (figures.f_blocks - figures.f_bfree) * figures.f_frsize) < 2**30


def test_a_folder_of_the_nodes_disk_is_added_up(volume: Path) -> None:
    told = asked(volume.parent, own=False)
    du = subprocess.run(["du", "-s", "-B1", str(volume)], capture_output=True, text=True, check=True)
    assert (told.ok, told.capacity_bytes, told.complete) == (True, None, True)
    assert told.used_bytes == int(du.stdout.split()[0])
    # A file with two names counts once, and a hole counts nothing.
    assert blocks(volume / "sparse") < told.used_bytes < 1_000_000


def test_a_claim_that_is_not_mounted_is_said(tmp_path: Path) -> None:
    told = asked(tmp_path, own=True)
    assert not told.ok
    assert "not mounted" in told.message


@pytest.mark.parametrize(("limit", "complete"), [(3, False), (1000, True)])
def test_adding_up_ends_in_time_with_a_lower_bound(volume: Path, limit: int, complete: bool) -> None:
    ticks = iter(range(10_000))
    found = added_up(volume, limit, clock=lambda: next(ticks))
    assert found.complete is complete
    assert (found.inodes < 10) is not complete
