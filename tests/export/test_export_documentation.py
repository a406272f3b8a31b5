"""docs/export.md does what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.cluster.controlplane import ControlPlane
from testbed.paths import project_root
from testbed.pytest_operator import World
from testbed.stores.mongodb import MongoDB


def run(
    commands: str, folder: Path, plane: ControlPlane, mongodb: MongoDB
) -> subprocess.CompletedProcess[str]:
    programs = [str(Path(sys.executable).parent), str(Path(plane.kubectl).parent)]
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env={
            **os.environ,
            "PATH": os.pathsep.join([*programs, os.environ["PATH"]]),
            "KUBECONFIG": str(plane.kubeconfig),
            "MONGODB_URI": mongodb.uri,
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.mongodb
@pytest.mark.apiserver
async def test_the_three_commands_adopt_a_database(
    mongo_world: World, mongodb: MongoDB, control_plane: ControlPlane, tmp_path: Path
) -> None:
    name = mongo_world.environment["MONGODB_DATABASE"]
    with mongodb.client() as client:
        client[name].orders.insert_one({"total": 5})
        client[name].orders.create_index([("customer", 1), ("placed", -1)])
        client[name].customers.create_index("email", unique=True)
    mongo_world.start_operator()
    text = (project_root() / "docs" / "export.md").read_text()
    (commands,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    commands = commands.replace("--database shop ", f"--database {name} ")
    commands = commands.replace("--namespace shop", f"--namespace {mongo_world.namespace}")
    done = run(commands, tmp_path, control_plane, mongodb)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("condition met") == 4
    assert len(commands.strip().splitlines()) == 3
