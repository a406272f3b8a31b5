"""Base images of a Dockerfile: the real ones where they can be pulled, else stand-ins of the same name.

A stand-in is Debian's minimal system with Debian's Python, which is version 3.11 in Debian 12. It has
`python`, `python3` and `pip` where the official image has them, and carries the label STAND_IN_LABEL.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from testbed import apt
from testbed.cluster.buildah import Buildah
from testbed.cluster.locks import exclusive
from testbed.errors import TestbedError
from testbed.paths import cache_dir
from testbed.progress import Progress

STAND_IN_LABEL = "lucid.testbed.stand-in"
_PYTHON = re.compile(r"(docker\.io/(library/)?)?python:3\.11(\.\d+)?-slim(-bookworm)?")
_DEBIAN = re.compile(r"(docker\.io/(library/)?)?debian:(12|bookworm)(-slim)?")
_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
_SUITE = "bookworm"


def ensure(dockerfile: Path, buildah: Buildah, progress: Progress) -> dict[str, str]:
    """Makes every base image of the Dockerfile present, and says the id of each by its name.

    Raises TestbedError for an image that can neither be pulled nor stood in for.
    """
    return {name: _ensure(name, buildah, progress) for name in base_names(dockerfile.read_text())}


def base_names(dockerfile: str) -> list[str]:
    """The images that the FROM lines name, without earlier stages and `scratch`.

    Raises TestbedError for a FROM with a variable that has no default in an ARG before it.
    """
    defaults: dict[str, str] = {}
    stages, names = {"scratch"}, []
    for line in dockerfile.splitlines():
        words = [word for word in line.split() if not word.startswith("--")]
        if len(words) < 2:
            continue
        match words[0].upper():
            case "ARG" if "=" in words[1]:
                name, _, value = words[1].partition("=")
                defaults[name] = value
            case "FROM":
                image = _expand(words[1], defaults)
                if image not in stages and image not in names:
                    names.append(image)
                if len(words) == 4:
                    stages.add(words[3])
    return names


def _expand(word: str, defaults: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in defaults:
            raise TestbedError(
                f"The Dockerfile's FROM uses {name}, which has no default; give it one in an ARG."
            )
        return defaults[name]

    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", value, word)


def _ensure(name: str, buildah: Buildah, progress: Progress) -> str:
    full = qualified(name)
    known = buildah.image_id(full)
    if known is None:
        with progress.step(f"Pulling {full}"):
            pulled = buildah.pull(full)
        if not pulled:
            _stand_in(name, full, buildah, progress)
    if buildah.label(full, STAND_IN_LABEL):
        progress.say(
            f"{name} cannot be pulled here: the base is a stand-in of that name made from Debian 12."
        )
    found = buildah.image_id(full)
    if found is None:
        raise TestbedError(f"The image {full} vanished from the cache; run the command again.")
    return found


def qualified(name: str) -> str:
    """The name with its registry, as Docker completes it."""
    first, slash, _ = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"


def _stand_in(name: str, full: str, buildah: Buildah, progress: Progress) -> None:
    if not (_PYTHON.fullmatch(name) or _DEBIAN.fullmatch(name)):
        raise TestbedError(f"The image {name} cannot be pulled, and the test bed has no stand-in for it.")
    settings = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
    }
    root = debian_root(progress)
    with progress.step(f"Importing the stand-in for {name}"):
        buildah.import_root(root, full, settings, {STAND_IN_LABEL: "true"}, ["python3"])


def debian_root(progress: Progress) -> Path:
    """A file system of Debian 12 with Python, as a tar file in the cache.

    Raises TestbedError when debootstrap cannot make it.
    """
    folder = cache_dir() / "images"
    folder.mkdir(exist_ok=True)
    target = folder / f"{_SUITE}-python.tar"
    with exclusive(folder / "debian.lock", "debootstrap", progress):
        if target.exists():
            return target
        apt.ensure(["debootstrap", "debian-archive-keyring"], progress)
        with (
            progress.step("Making a base image with debootstrap"),
            tempfile.TemporaryDirectory(dir=folder) as temporary,
        ):
            root = Path(temporary) / "root"
            _debootstrap(root)
            _like_the_official_image(root)
            draft = Path(temporary) / "root.tar"
            _run("tar", "--create", "--numeric-owner", f"--file={draft}", f"--directory={root}", ".")
            draft.replace(target)
    return target


def _debootstrap(root: Path) -> None:
    # Without a mirror debootstrap uses its own default.
    mirror = [found] if (found := _mirror()) else []
    arguments = ["--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(root), *mirror]
    _run("nice", "debootstrap", *arguments)


def _mirror() -> str | None:
    """Where this machine's apt gets Debian 12 from."""
    command = ["apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in answer.stdout.splitlines():
        suite, _, rest = line.partition(" ")
        component, _, address = rest.partition(" ")
        if (suite, component) == (_SUITE, "main"):
            return address
    return None


def _like_the_official_image(root: Path) -> None:
    for name, target in (("python", "python3"), ("python3", "python3"), ("pip", "pip3"), ("pip3", "pip3")):
        (root / "usr/local/bin" / name).symlink_to(f"/usr/bin/{target}")
    # Debian's pip refuses to install outside a virtual environment; the official image's does not.
    for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()
    for waste in ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists", "var/cache/apt"):
        shutil.rmtree(root / waste, ignore_errors=True)
        (root / waste).mkdir(parents=True)
    for device in ("dev", "proc", "sys"):
        shutil.rmtree(root / device)
        (root / device).mkdir()


def _run(*command: str) -> None:
    answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if answer.returncode != 0:
        tail = "\n".join(answer.stdout.splitlines()[-15:])
        raise TestbedError(f"{' '.join(command)} failed; is the Debian mirror reachable?\n{tail}")
