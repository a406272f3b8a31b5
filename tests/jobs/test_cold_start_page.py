"""The commands of docs/cold-start.md run as they are printed, on a real bucket and a real API server."""

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from workshop import Workshop

from lucid_storage.models.restore import RestoreSpec
from testbed.cluster.controlplane import ControlPlane
from testbed.paths import project_root
from testbed.stores.mongodb import MongoDB
from testbed.stores.s3 import S3
from testbed.testrun import TestRun

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]
NAMESPACE = "lucid"


@pytest.fixture
def bucket(testbed_run: TestRun) -> tuple[S3, str]:
    with testbed_run.once("s3"):
        server = S3(testbed_run.instance)
        server.start()
    name = f"lucid-{uuid.uuid4().hex[:12]}"
    server.make_bucket(name)
    return server, name


@pytest.fixture
def plane(private_control_plane: Callable[[], ControlPlane]) -> ControlPlane:
    made = private_control_plane()
    kubectl = [made.kubectl, f"--kubeconfig={made.kubeconfig}"]
    subprocess.run([*kubectl, "apply", "--server-side", "-f", project_root() / "crds"], check=True)
    wait = [
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "crd/restores.storage.lucid-blockchain.org",
    ]
    subprocess.run([*kubectl, *wait], check=True)
    return made


def test_the_commands_of_the_page_lead_to_a_restore_that_the_api_server_takes(
    workshop: Callable[..., Workshop],
    mongodb: MongoDB,
    database: str,
    bucket: tuple[S3, str],
    plane: ControlPlane,
    tmp_path: Path,
) -> None:
    server, name = bucket
    with mongodb.client() as client:
        client[database]["a"].insert_many([{"_id": n} for n in range(100)])
    login = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    shop = workshop(MONGODB_URI=mongodb.uri, **login)
    destination = {"bucket": name, "endpoint": server.url, "region": server.region, "root": "some/prefix"}
    made = shop.back_up("made", ["mongodb"], destination=destination, mongodb={"databases": [database]})
    assert made.ok, made.message

    path = [str(Path(plane.kubectl).parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    bare = {
        "PATH": os.pathsep.join(path),
        "HOME": str(tmp_path),
        "KUBECONFIG": str(plane.kubeconfig),
        "BUCKET": name,
        "ENDPOINT": server.url,
        "ID": str(made.id),
        **login,
    }
    told = []
    for block in blocks():
        answer = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=tmp_path,  # the folder `keys` is there
            env=bare,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, f"{block}\n{answer.stderr}"
        told.append(answer.stdout)
    assert str(made.id) in told[0]
    assert "is proved: Checksum" in told[1]
    stored = ["get", "lrst", "-n", NAMESPACE, "-o", "json"]
    answer = subprocess.run(
        [plane.kubectl, f"--kubeconfig={plane.kubeconfig}", *stored],
        capture_output=True,
        text=True,
        check=True,
    )
    (restore,) = json.loads(answer.stdout)["items"]
    spec = RestoreSpec.model_validate(restore["spec"])
    assert spec.source is not None
    assert spec.source.id == made.id
    assert spec.source.storage.s3 is not None
    assert (spec.source.storage.s3.bucket, spec.source.storage.s3.prefix) == (name, "some/prefix")


def blocks() -> list[str]:
    text = (project_root() / "docs" / "cold-start.md").read_text()
    found = re.findall(r"^```sh cold-start\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(found) == 3
    return found
