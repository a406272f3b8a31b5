"""Which sources an image depends on, and which bases it needs."""

import tarfile
from pathlib import Path

import pytest

from testbed.cluster import archive, base_image, images
from testbed.cluster.network import Network
from testbed.errors import TestbedError
from testbed.paths import Instance

DOCKERFILE = """\
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm AS build
COPY pyproject.toml README.md ./
COPY --chown=0:0 operator \\
     ./operator
RUN pip install .
FROM --platform=linux/amd64 python:3.11-slim-bookworm
COPY --from=build /opt/lucid /opt/lucid
FROM build AS last
FROM scratch
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    for name in (
        "pyproject.toml",
        "README.md",
        "operator/a/b.py",
        "operator/a/__pycache__/b.pyc",
        "other.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    return tmp_path


def test_base_images_are_those_of_from_lines_without_stages_and_scratch() -> None:
    assert base_image.base_names(DOCKERFILE) == ["python:3.11-slim-bookworm"]


def test_a_from_with_an_unknown_variable_is_refused() -> None:
    with pytest.raises(TestbedError, match="WHERE, which has no default"):
        base_image.base_names("FROM $WHERE/python")


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("python:3.11", "docker.io/library/python:3.11"),
        ("bitnami/redis", "docker.io/bitnami/redis"),
        ("localhost/mine:1", "localhost/mine:1"),
        ("registry.example:5000/a/b", "registry.example:5000/a/b"),
    ],
)
def test_names_are_completed_as_docker_does(name: str, full: str) -> None:
    assert base_image.qualified(name) == full


def test_the_sources_of_an_image_are_what_its_dockerfile_copies(context: Path) -> None:
    found = [str(path.relative_to(context)) for path in images.copied_files(DOCKERFILE, context)]
    assert found == ["README.md", "operator/a/b.py", "pyproject.toml"]


def test_an_image_is_built_anew_when_a_copied_file_its_mode_the_base_or_the_dockerfile_changes(
    context: Path,
) -> None:
    def fingerprint(base: str = "id-1") -> str:
        return images.fingerprint(context / "Dockerfile", context, "tag", {"python": base})

    first = fingerprint()
    (context / "other.txt").write_text("changed")
    (context / "operator/a/__pycache__/b.pyc").write_text("changed")
    assert fingerprint() == first
    seen = {first, fingerprint("id-2")}
    (context / "operator/a/b.py").write_text("changed")
    seen.add(fingerprint())
    (context / "operator/a/b.py").chmod(0o755)
    seen.add(fingerprint())
    (context / "Dockerfile").write_text(DOCKERFILE + "USER 65532\n")
    seen.add(fingerprint())
    assert len(seen) == 5


def test_an_archive_holds_the_files_and_links_it_was_given(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    image = archive.write(tmp_path / "i.tar", "t:1", files={"/bin/p": program}, links={"/bin/q": "p"})
    with tarfile.open(image) as outer:
        layer = outer.extractfile("layer.tar")
        assert layer is not None
        with tarfile.open(fileobj=layer) as inner:
            members = {member.name: member for member in inner}
    assert members["bin/p"].mode == 0o755
    assert members["bin/q"].linkname == "p"
    assert members["tmp"].mode == 0o1777


def test_instances_get_networks_of_their_own_and_keep_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUCID_TESTBED_CACHE", str(tmp_path / "cache"))
    one, two = Instance("one", tmp_path / "one"), Instance("two", tmp_path / "two")
    first, second = Network.reserve(one), Network.reserve(two)
    assert first != second
    assert Network.reserve(one) == first
    Network.release(one)
    Network.release(one)
    assert Network.reserved(one) is None
