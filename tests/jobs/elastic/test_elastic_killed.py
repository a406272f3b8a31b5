"""A restore that is killed between any two of its requests: the target is the old one or the new one, and whole."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.elastic.elastic_bed import Backup, Bed, hits
from lucid_storage.jobs.elastic_restore import restore

pytestmark = [pytest.mark.elasticsearch, pytest.mark.slow]

NEVER = 10_000


def restore_apart(
    bed: Bed, backup: Backup, folder: Path, at: int, run: str
) -> subprocess.CompletedProcess[str]:
    (folder / "data").write_bytes(backup.data)
    order = {
        "url": bed.server.url,
        "run": run,
        "record": backup.record.model_dump(mode="json"),
        "data": str(folder / "data"),
        "at": at,
    }
    (folder / "order").write_text(json.dumps(order))
    command = [sys.executable, "-m", "jobs.elastic.killed_restore", str(folder / "order")]
    root = Path(__file__).resolve().parents[3]
    environment = {
        "PYTHONPATH": f"{root / 'tests'}:{root / 'operator'}:{root / 'e2e'}",
        "PATH": "/usr/bin:/bin",
    }
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def state(bed: Bed, index: str) -> tuple[Any, Any]:
    bed.call("POST", f"/{index}/_refresh")
    (found,) = bed.call("GET", f"/{index}/_alias").values()
    aliases = [alias for alias in sorted(found["aliases"]) if not alias.endswith("-live")]
    return [(h["_id"], h["_version"], h["_source"]) for h in hits(bed, index)], aliases


@pytest.mark.timeout(600)
async def test_a_restore_killed_at_any_request_is_all_or_nothing_and_the_next_one_cleans_up(
    bed: Bed, tmp_path: Path
) -> None:
    alias = bed.name("alias")
    index = bed.index("held", {"settings": {"number_of_replicas": 0}, "aliases": {alias: {}}})
    bed.fill(index, 20)
    backup = bed.back_up()
    done = restore_apart(bed, backup, tmp_path, NEVER, "measure")
    assert done.returncode == 0, done.stderr
    new = state(bed, index)
    requests = int(done.stdout)
    assert requests > 15
    for at in range(1, requests + 1):
        bed.put(index, "later", '{"later":true}')
        old = state(bed, index)
        run = f"k{at}"
        killed = restore_apart(bed, backup, tmp_path, at, run)
        if killed.returncode == 0:
            continue  # the number of requests varies by one or two, with the polls
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert state(bed, index) in (old, new), at
        assert bed.count(alias) in (len(old[0]), len(new[0]))
        last = restore(bed.restore_run(backup, drop_existing=True, run=f"n{at}"))
        assert state(bed, index) == new
        assert bed.indices() == {f"{index}-r-n{at}"}, (at, last.notes)
        assert set(bed.call("GET", f"/{index}/_alias")[f"{index}-r-n{at}"]["aliases"]) == {index, alias}
        shields = [t["name"] for t in bed.call("GET", "/_index_template")["index_templates"]]
        assert not [name for name in shields if name in (f"lucid-restore-{run}", f"lucid-restore-n{at}")], at
        (after,) = bed.call("GET", f"/{index}").values()
        assert "hidden" not in after["settings"]["index"]
        assert "until" not in after["mappings"]["_meta"]["lucid-storage-restore"]
