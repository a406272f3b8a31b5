"""All generated files, in the order in which they depend on each other."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from generate import conditions, readme, settings
from lucid_storage.models import generate as models
from testbed.cluster import binaries
from testbed.progress import Progress

Files = Mapping[str, str]


@dataclass(frozen=True)
class Part:
    """Files made from one source: text by path below the root. Later parts may read files of earlier ones."""

    make: Callable[[Path], Files]
    folders: tuple[tuple[str, str], ...] = ()
    """(folder, glob) of places where nothing else may lie."""
    rendered: bool = False
    """Made from files of earlier parts, and looked at only when those are current."""

    def surplus(self, root: Path, files: Files) -> list[str]:
        there = [
            p.relative_to(root).as_posix()
            for folder, glob in self.folders
            for p in (root / folder).glob(glob)
        ]
        return sorted(path for path in there if path not in files)


def parts(helm: Path | None) -> list[Part]:
    """Without helm, what is rendered from the chart is left out."""
    chosen = [
        Part(models.generated_files, models.GENERATED),
        Part(_pages),
        Part(lambda root: _chart(root).chart_crds(root), (("helm/lucid-storage/files/crds", "*"),)),
    ]
    if helm is not None:
        chosen.append(Part(lambda root: _chart(root).made_from_chart(root, helm), rendered=True))
    return chosen


def find_helm(progress: Progress) -> Path | None:
    """$HELM, else the test bed's, which Go builds once; None where there is neither it nor Go.

    Raises TestbedError when the build fails.
    """
    if chosen := os.environ.get("HELM"):
        return Path(chosen)
    built = binaries.PROGRAMS["helm"].path()
    if built.exists():
        return built
    if shutil.which("go") is None:
        return None
    return binaries.ensure(["helm"], progress)["helm"]


def write(root: Path, helm: Path | None) -> None:
    """Brings every generated file below `root` up to date."""
    for part in parts(helm):
        files = part.make(root)
        for path in part.surplus(root, files):
            (root / path).unlink()
        for path, text in files.items():
            if _read(root / path) != text:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text, encoding="utf-8")


def problems(root: Path, helm: Path | None) -> list[str]:
    """Sentences about files that differ, should not be there, or are unknown to git."""
    wrong: list[str] = []
    generated: list[str] = []
    for part in parts(helm):
        if part.rendered and wrong:
            continue
        files = part.make(root)
        generated += files
        wrong += [path for path, text in files.items() if _read(root / path) != text]
        wrong += part.surplus(root, files)
    said = []
    if wrong:
        said.append(f"Generated files differ; run `make generate`: {', '.join(sorted(wrong))}")
    unknown = untracked(root, generated)
    if unknown:
        said.append(f"Generated files are not in git; `git add` them: {', '.join(unknown)}")
    return said


def untracked(root: Path, paths: Iterable[str]) -> list[str]:
    """Those that git does not know; none where `root` is no clone, such as an unpacked archive."""
    if not (root / ".git").exists():
        return []
    command = ["git", "-C", str(root), "ls-files", "-z"]
    known = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0"))
    return sorted(set(paths) - known)


def _pages(root: Path) -> Files:
    return {
        "docs/conditions.md": conditions.page(),
        "docs/settings.md": settings.page(),
        "README.md": readme.page(_text(root / "README.md"), _text(root / "docs/demo.txt")),
    }


@lru_cache(maxsize=8)
def _chart(root: Path) -> ModuleType:
    """helm/generate.py, which is a script beside the chart and in no package."""
    path = root / "helm" / "generate.py"
    spec = importlib.util.spec_from_file_location("made_from_chart", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _read(path: Path) -> str | None:
    return _text(path) if path.is_file() else None
