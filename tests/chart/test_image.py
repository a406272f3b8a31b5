"""What the image is made from."""

import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from testbed.paths import project_root


def pinned() -> dict[str, str]:
    lines = (project_root() / "requirements.lock").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def test_the_image_has_a_version_of_every_dependency_within_its_bounds() -> None:
    project = tomllib.loads((project_root() / "pyproject.toml").read_text())["project"]
    versions = pinned()
    for dependency in map(Requirement, project["dependencies"]):
        version = versions.get(canonicalize_name(dependency.name))
        assert version is not None, f"{dependency.name} is not in requirements.lock; run make lock"
        assert dependency.specifier.contains(version), f"{dependency} excludes {version}; run make lock"


def test_the_last_stage_of_the_image_runs_without_rights_and_without_a_compiler() -> None:
    stage = (project_root() / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    assert "USER 65532:65532" in stage
    assert "RUN" not in stage.split()
