"""A worker always says what became of it, in 4,096 bytes, ends in time, and stops when told to."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lucid_storage.errors import Reason
from lucid_storage.jobs.reporting import TERMINATION_BYTES, Reporter, packed
from lucid_storage.models.backup import BackupEngine
from lucid_storage.models.orders import BackupResult, EngineOutcome


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_progress_is_told_once_a_second_and_a_phase_at_once() -> None:
    now, out = 0.0, io.StringIO()
    reporter = Reporter(out=out, clock=lambda: now)
    for _ in range(100):
        reporter.add(10, 1)
    assert len(lines(out)) == 1
    now = 1.0
    reporter.add(10, 1)
    reporter.phase("Verifying", 4096)
    assert lines(out)[1:] == [
        {"progress": {"phase": "Running", "doneBytes": 1010, "doneDocuments": 101, "message": ""}},
        {
            "progress": {
                "phase": "Verifying",
                "doneBytes": 0,
                "totalBytes": 4096,
                "doneDocuments": 0,
                "message": "",
            }
        },
    ]


def test_a_result_with_long_sentences_in_many_bytes_still_fits() -> None:
    engines = tuple(
        EngineOutcome(engine=engine, ok=False, reason=Reason.DESTINATION_UNAVAILABLE, message="ß" * 5000)
        for engine in BackupEngine
    )
    result = BackupResult(run="r" * 36, ok=False, message="ß" * 5000, engines=engines, location="l" * 1024)
    text = packed(result)
    assert len(text.encode()) <= TERMINATION_BYTES
    told = BackupResult.model_validate_json(text)
    assert [e.reason for e in told.engines] == [Reason.DESTINATION_UNAVAILABLE] * 4
    assert told.message.endswith("…")


SCRIPT = """
import sys, time
from lucid_storage.errors import Reason, LucidError
from lucid_storage.jobs.worker import run_worker
from lucid_storage.models.orders import BackupResult, Order

def work(order, environ, reporter, stop):
    print("at work", flush=True)
    {body}

def failed(order, reason, message):
    return BackupResult(run=order.run, ok=False, reason=reason, message=message)

sys.exit(run_worker(Order, work, failed))
"""


def worker(tmp_path: Path, body: str, deadline: int = 60) -> "subprocess.Popen[str]":
    order = {
        "run": "r1",
        "owner": {"cluster": "c", "namespace": "n", "name": "b", "uid": "u", "specHash": "h"},
        "destination": {},
        "chain": "manual",
        "deadlineSeconds": deadline,
    }
    environ = {
        **os.environ,
        "LUCID_ORDER": json.dumps(order),
        "LUCID_TERMINATION_PATH": str(tmp_path / "termination"),
    }
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.replace("{body}", body)],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: "subprocess.Popen[str]", tmp_path: Path) -> tuple[int, BackupResult]:
    try:
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    return process.returncode, BackupResult.model_validate_json((tmp_path / "termination").read_text())


WAIT = "stop.event.wait(50); raise LucidError('stopped', reason=Reason.STORE_UNAVAILABLE)"


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("raise LucidError('no', reason=Reason.NO_BASE)", 0, Reason.NO_BASE),
        ("raise ValueError('a value of a document')", 1, Reason.INTERNAL_ERROR),
    ],
)
def test_an_error_becomes_a_result(tmp_path: Path, body: str, status: int, reason: Reason) -> None:
    code, result = ended(worker(tmp_path, body), tmp_path)
    assert (code, result.ok, result.reason) == (status, False, reason)
    assert "value of a document" not in result.message


def test_sigterm_ends_the_work_as_cancelled(tmp_path: Path) -> None:
    process = worker(tmp_path, WAIT)
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGTERM)
    code, result = ended(process, tmp_path)
    assert (code, result.reason) == (0, Reason.CANCELLED)


def test_sigterm_ends_the_work_wherever_it_comes(tmp_path: Path) -> None:
    """The main thread holds the lock of the event that it is about to wait for, as `wait` does at its beginning."""
    body = f"""
    import os, signal
    with stop.event._cond:
        os.kill(os.getpid(), signal.SIGTERM)
    {WAIT}"""
    code, result = ended(worker(tmp_path, body), tmp_path)
    assert (code, result.reason) == (0, Reason.CANCELLED)


def test_the_deadline_ends_the_work_although_the_operator_is_away(tmp_path: Path) -> None:
    begun = time.monotonic()
    code, result = ended(worker(tmp_path, WAIT, deadline=1), tmp_path)
    assert (code, result.reason) == (0, Reason.DEADLINE_EXCEEDED)
    assert time.monotonic() - begun < 40


def test_what_was_done_until_the_deadline_is_told_with_it(tmp_path: Path) -> None:
    body = "stop.event.wait(50); raise LucidError('The run was stopped. 5 keys had been written by then.')"
    _, result = ended(worker(tmp_path, body, deadline=1), tmp_path)
    assert result.reason is Reason.DEADLINE_EXCEEDED
    said = "The work took longer than 1 s. The run was stopped. 5 keys had been written by then."
    assert result.message == said


def test_an_order_that_is_none_is_said_on_stderr(tmp_path: Path) -> None:
    environ = {**os.environ, "LUCID_ORDER": "{}"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("{body}", "pass")],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "LUCID_ORDER holds no order" in done.stderr
