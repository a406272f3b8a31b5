"""A restore that is killed between any two of its changes: the target is the old one or the new one, and whole."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.elastic.elastic_bed import Backup, Bed, hits
from lucid_storage.jobs.elastic_restore import restore

pytestmark = [pytest.mark.elasticsearch, pytest.mark.slow]

NEVER = 10_000

Killed = Callable[[Backup, int, str], tuple[int, int]]


@pytest.fixture
def restore_apart(bed: Bed, tmp_path: Path) -> Iterator[Killed]:
    """A restore, by backup, number of the change and run: which signal ended it, or how many changes there were."""
    root = Path(__file__).resolve().parents[3]
    environment = {
        "PYTHONPATH": f"{root / 'tests'}:{root / 'operator'}:{root / 'e2e'}",
        "PATH": "/usr/bin:/bin",
    }
    command = [sys.executable, "-m", "jobs.elastic.killed_restore"]
    with (tmp_path / "said").open("w+") as said:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
        )
        orders, answers = process.stdin, process.stdout
        assert orders is not None
        assert answers is not None

        def run(backup: Backup, at: int, name: str) -> tuple[int, int]:
            data = tmp_path / "data"
            data.write_bytes(backup.data)
            record = backup.record.model_dump(mode="json")
            order = {"url": bed.server.url, "run": name, "record": record, "data": str(data), "at": at}
            print(json.dumps(order), file=orders, flush=True)
            answer = json.loads(answers.readline() or "{}")
            said.seek(0)
            assert answer.get("signal") or answer.get("changes"), said.read()
            return answer["signal"], answer["changes"]

        yield run
        orders.close()
        answers.close()
        assert process.wait(30) == 0


def state(bed: Bed, index: str) -> tuple[Any, Any]:
    bed.call("POST", f"/{index}/_refresh")
    (found,) = bed.call("GET", f"/{index}/_alias").values()
    aliases = [alias for alias in sorted(found["aliases"]) if not alias.endswith("-live")]
    return [(h["_id"], h["_version"], h["_source"]) for h in hits(bed, index)], aliases


@pytest.mark.timeout(600)
async def test_a_restore_killed_at_any_change_is_all_or_nothing_and_the_next_one_cleans_up(
    bed: Bed, restore_apart: Killed
) -> None:
    alias = bed.name("alias")
    index = bed.index("held", {"settings": {"number_of_replicas": 0}, "aliases": {alias: {}}})
    bed.fill(index, 20)
    backup = bed.back_up()
    ended, changes = restore_apart(backup, NEVER, "measure")
    assert not ended
    new = state(bed, index)
    assert changes > 8
    for at in range(1, changes + 1):
        bed.put(index, "later", '{"later":true}')
        old = state(bed, index)
        run = f"k{at}"
        ended, _ = restore_apart(backup, at, run)
        assert ended == signal.SIGKILL
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
        assert "mapping" not in after["settings"]["index"]
