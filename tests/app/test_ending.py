"""The process ends although something in it never does, and also before it has begun to work."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lucid_storage.app.operator import Operator
from lucid_storage.errors import LeadershipLostError
from lucid_storage.kinds.tasks import first_of
from lucid_storage.models.settings import Settings
from testbed.paths import project_root

NEVER_ENDS = textwrap.dedent("""
    import asyncio, threading
    from lucid_storage.app.ending import Deadline
    from lucid_storage.app.logs import configure

    async def deaf():
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass

    async def main():
        Deadline(0.3).begin()
        waiting = asyncio.create_task(deaf(), name="the one that stays")
        await asyncio.sleep(0)

    configure("INFO")
    threading.Thread(target=threading.Event().wait, name="a thread that stays").start()
    asyncio.run(main())
""")


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(project_root() / "operator"), **variables}


def test_what_never_ends_is_told_and_left_behind() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", NEVER_ENDS],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert answer.returncode == 1, answer.stderr
    line = json.loads(answer.stdout)
    assert line["level"] == "critical"
    assert "task the one that stays in sleep" in line["message"]
    assert "thread a thread that stays in Condition.wait" in line["message"]


def test_a_process_that_has_not_begun_its_work_ends_by_itself_on_the_signal(tmp_path: Path) -> None:
    """The first process of a container is not ended by a signal that it does not handle."""
    kubeconfig = tmp_path / "kubeconfig"
    os.mkfifo(kubeconfig)
    process = subprocess.Popen(
        [sys.executable, "-m", "lucid_storage", "operator"],
        env=environment(KUBECONFIG=str(kubeconfig), HEALTH_PORT="0", REST_PORT="0"),
    )
    try:
        with kubeconfig.open("w"):  # opens when the process reads, which it does for ever
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


async def test_a_lost_lease_begins_the_deadline_before_the_others_are_waited_for() -> None:
    began: list[str] = []
    seen: list[bool] = []
    operator = Operator(
        Settings.read({"WORKER_IMAGE": "lucid-storage:test"}), on_ending=lambda: began.append("x")
    )

    async def lost() -> None:
        raise LeadershipLostError("another replica leads")

    async def deaf() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(bool(began))

    with pytest.raises(LeadershipLostError):
        await first_of(operator._limited(job) for job in (lost(), deaf()))
    assert seen == [True]
