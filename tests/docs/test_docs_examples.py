"""Blocks marked `sh test` run, and resources on the pages are accepted, by a real API server."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from docs_pages import ROOT, blocks, name, pages

from lucid_storage.models.meta import API_VERSION
from testbed.cluster import binaries
from testbed.cluster.controlplane import ControlPlane
from testbed.progress import Progress

pytestmark = pytest.mark.apiserver


def test_what_the_pages_tell_people_to_run_runs(
    private_control_plane: Callable[[], ControlPlane], tmp_path: Path
) -> None:
    plane = private_control_plane()
    environment = _environment(plane, tmp_path)
    ran = 0
    for page in pages():
        for block in blocks(page.read_text(), "sh test"):
            ran += 1
            answer = _run(["bash", "-euo", "pipefail", "-c", block], environment)
            assert answer.returncode == 0, f"{name(page)}: {answer.stderr}"
    assert ran > 0
    _accepted(environment)


def _accepted(environment: dict[str, str]) -> None:
    examples = [
        (page, document)
        for page in pages()
        for block in blocks(page.read_text(), "yaml")
        for document in yaml.safe_load_all(block)
        if document and document.get("apiVersion") == API_VERSION
    ]
    assert len(examples) > len(list((ROOT / "docs/kinds").glob("*.md")))
    for page, document in examples:
        command = ["kubectl", "create", "--dry-run=server", "--validate=strict", "-f", "-"]
        answer = _run(command, environment, yaml.safe_dump(document))
        assert answer.returncode == 0, f"{name(page)}: {answer.stderr}"


def _environment(plane: ControlPlane, folder: Path) -> dict[str, str]:
    """A shell with kubectl for this cluster, helm and our script, and nothing of the person who runs the tests."""
    programs = {"kubectl": Path(plane.kubectl), **binaries.ensure(["helm"], Progress())}
    binaries.link(programs, folder / "bin")
    path = os.pathsep.join([str(folder / "bin"), str(ROOT / ".venv" / "bin"), os.environ["PATH"]])
    return {"PATH": path, "HOME": str(folder), "KUBECONFIG": str(plane.kubeconfig)}


def _run(
    command: list[str], environment: dict[str, str], text: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env=environment, input=text, capture_output=True, text=True, check=False
    )
