"""The project's image, built from its Dockerfile into a file that a node can load.

The file's name carries a hash of the Dockerfile, of everything that it copies, and of its base images, so
that nothing is built when nothing has changed.
"""

import configparser
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from testbed import apt
from testbed.cluster import archive, base_image
from testbed.cluster.buildah import Buildah
from testbed.cluster.locks import exclusive
from testbed.paths import cache_dir
from testbed.progress import Progress

BUSYBOX = "localhost/lucid-testbed/busybox:1"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_KEPT = 2


@dataclass(frozen=True)
class Image:
    """A built image: its name and the file that holds it, in the form of `docker save`."""

    tag: str
    file: Path


def build(dockerfile: Path, context: Path, tag: str, progress: Progress) -> Image:
    """Builds the image unless a file of the same sources is there.

    Raises TestbedError when a base image cannot be had or a step of the Dockerfile fails.
    """
    buildah = Buildah(progress)
    with exclusive(buildah.lock_file, "build of an image", progress):
        bases = base_image.ensure(dockerfile, buildah, progress)
        image = Image(tag, _folder(tag) / f"{fingerprint(dockerfile, context, tag, bases)}.tar")
        if not image.file.exists():
            with progress.step(f"Building the image {tag}"):
                buildah.build(dockerfile, context, tag, _build_mounts())
                buildah.export(tag, image.file)
                buildah.prune()
                _forget_old(image.file.parent)
        image.file.touch()
    return image


def fingerprint(dockerfile: Path, context: Path, tag: str, bases: Mapping[str, str]) -> str:
    """A hash of all that the image depends on: names, permissions and contents of the copied files."""
    digest = hashlib.sha256(json.dumps([tag, bases, dockerfile.read_text()], sort_keys=True).encode())
    for path in copied_files(dockerfile.read_text(), context):
        mode = "x" if os.access(path, os.X_OK) else "-"
        digest.update(f"{path.relative_to(context)}\0{mode}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def copied_files(dockerfile: str, context: Path) -> list[Path]:
    """The files of the context that COPY and ADD name, Python's caches excepted; sorted.

    What .dockerignore leaves out is counted too: that costs a build now and then, and never misses one.
    """
    found: set[Path] = set()
    for source in _copy_sources(dockerfile):
        matches = [context] if source in {".", "./"} else sorted(context.glob(source.strip("/")))
        for match in matches:
            inside = match.rglob("*") if match.is_dir() else [match]
            found.update(path for path in inside if path.is_file() and not _is_cache(path))
    return sorted(found)


def busybox(progress: Progress) -> Image:
    """A small image with a shell, for pods of tests. Needs root the first time."""
    apt.ensure(["busybox-static"], progress)
    program = Path("/bin/busybox")
    digest = hashlib.sha256(program.read_bytes()).hexdigest()[:16]
    image = Image(BUSYBOX, _folder(BUSYBOX) / f"{digest}.tar")
    if not image.file.exists():
        listed = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
        links = {f"/bin/{name}": "busybox" for name in listed.stdout.split() if name != "busybox"}
        archive.write(image.file, BUSYBOX, files={"/bin/busybox": program}, links=links)
    return image


def _copy_sources(dockerfile: str) -> Iterator[str]:
    for line in re.sub(r"\\\n", " ", dockerfile).splitlines():
        words = shlex.split(line, comments=True)
        if not words or words[0].upper() not in {"COPY", "ADD"}:
            continue
        options = [word for word in words[1:] if word.startswith("--")]
        if not any(option.startswith("--from=") for option in options):
            yield from [word for word in words[1:] if not word.startswith("--")][:-1]


def _is_cache(path: Path) -> bool:
    made = {"__pycache__", ".git", ".mypy_cache", ".ruff_cache"}
    return bool(made & set(path.parts)) or ".egg-info/" in str(path) or path.suffix == ".pyc"


def _build_mounts() -> dict[Path, str]:
    """pip's settings and the certificates of this machine, for RUN alone: the image has neither."""
    settings = _pip_settings()
    mounts: dict[Path, str] = {}
    if _CERTIFICATES.exists():
        mounts[_CERTIFICATES.resolve()] = str(_CERTIFICATES)
        settings["cert"] = str(_CERTIFICATES)
    for folder in settings.get("find-links", "").split():
        if Path(folder).is_dir():
            mounts[Path(folder)] = folder
    file = cache_dir() / "buildah" / "pip.conf"
    parser = configparser.RawConfigParser()
    parser["global"] = settings
    with file.open("w") as target:
        parser.write(target)
    mounts[file] = "/etc/pip.conf"
    return mounts


def _pip_settings() -> dict[str, str]:
    """What pip is told on this machine by its files and its environment; the environment wins."""
    command = [sys.executable, "-m", "pip", "config", "list", "--disable-pip-version-check"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    settings: dict[str, str] = {}
    for section in ("global.", "install.", ":env:."):
        for line in answer.stdout.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(section):
                settings[name.removeprefix(section)] = shlex.split(value)[0] if value else ""
    return settings


def _folder(tag: str) -> Path:
    folder = cache_dir() / "images" / re.sub(r"[^A-Za-z0-9.-]+", "_", tag)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _forget_old(folder: Path) -> None:
    files = sorted(folder.glob("*.tar"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[_KEPT:]:
        file.unlink()
