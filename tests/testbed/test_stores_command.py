"""`python -m testbed` starts and stops the stores as a person would."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pymongo import MongoClient

from testbed.identity import marked
from testbed.paths import Instance
from testbed.stores import s3
from testbed.testrun import TestRun


@pytest.fixture
def instance() -> Iterator[Instance]:
    instance = Instance.named(f"test-{uuid.uuid4().hex[:8]}")
    yield instance
    _testbed("down", "--purge", "--name", instance.name)
    assert marked(instance) == []
    assert not instance.root.exists()


@pytest.mark.mongodb
@pytest.mark.redis
@pytest.mark.elasticsearch
def test_up_writes_variables_that_lead_to_running_stores(instance: Instance) -> None:
    named = ("--name", instance.name)
    first = _testbed("up", "--stores-only", "--sharded", *named)
    assert (first.returncode, "is up:" in first.stdout) == (0, True), first.stderr
    variables = _sourced(instance.root / "env")
    with MongoClient[dict[str, object]](variables["MONGODB_URI"]) as client:
        assert client.admin.command("ping")["ok"] == 1
        assert len(client.admin.command("hello")["hosts"]) == 3
    with MongoClient[dict[str, object]](variables["MONGODB_ROUTER_URI"]) as client:
        assert len(client.admin.command("listShards")["shards"]) == 2
    with redis.Redis.from_url(variables["REDIS_URL"]) as client:
        assert client.ping()
    assert (instance.root / "env").stat().st_mode & 0o077 == 0

    again = _testbed("up", "--stores-only", *named)
    assert (again.returncode, "is up already" in again.stdout) == (0, True), again.stderr
    assert _testbed("status", *named).returncode == 0

    assert "is stopped" in _testbed("down", *named).stdout
    assert "did not run" in _testbed("down", *named).stdout
    assert _testbed("status", *named).returncode == 3
    assert marked(instance) == []


def test_a_name_with_a_slash_is_refused_in_a_sentence() -> None:
    answer = _testbed("up", "--name", "../elsewhere")
    assert answer.returncode == 1
    assert answer.stderr == "error: '../elsewhere' cannot name a test bed: use letters, digits and dashes.\n"


def test_variables_of_a_test_bed_that_was_never_up_are_refused_in_a_sentence() -> None:
    answer = _testbed("env", "--name", "never-up")
    assert answer.returncode == 1
    assert answer.stderr == "error: The test bed never-up was never up; start it with `up`.\n"
    assert not Instance.named("never-up").root.exists()


def test_s3_answers_and_asks_for_a_signature(testbed_run: TestRun) -> None:
    server = s3.S3(testbed_run.instance, f"s3-{uuid.uuid4().hex[:8]}")
    server.start()
    bucket = f"{server.url}/backups"
    login = (
        "--aws-sigv4",
        f"aws:amz:{server.region}:s3",
        "--user",
        f"{server.access_key}:{server.secret_key}",
    )
    assert _status("-X", "PUT", *login, bucket) == "200"
    assert _status("-X", "PUT", *login, "--data-binary", "hello", f"{bucket}/greeting") == "200"
    server.restart()
    assert _status(*login, f"{bucket}/greeting") == "200"
    assert _status(f"{bucket}/greeting") == "403"
    server.stop()
    server.stop()
    assert not server.running()


def _status(*arguments: str) -> str:
    unsigned = ("-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD")
    command = [
        "curl",
        "--silent",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code}",
        *unsigned,
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _testbed(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "testbed", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def _sourced(path: Path) -> dict[str, str]:
    shell = ["sh", "-c", '. "$1"; env -0', "sh", str(path)]
    text = subprocess.run(shell, capture_output=True, text=True, check=True).stdout
    return dict(entry.split("=", 1) for entry in text.split("\0") if entry)
