"""Writes crds/ and docs/kinds/ from the models; with --check only says what differs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from lucid_storage.models.crds import crd_yaml
from lucid_storage.models.kinds import KINDS
from lucid_storage.models.pages import page

SAMPLES = Path("manifests/samples")
GENERATED = (("crds", "*.yaml"), ("docs/kinds", "*.md"))


def generated_files(root: Path) -> Mapping[str, str]:
    """Text of every generated file by its path below `root`, whose samples are shown on the pages."""
    files = {}
    for info in KINDS.values():
        sample = (root / SAMPLES / f"{info.singular}-minimal.yaml").read_text(encoding="utf-8")
        files[f"crds/{info.plural}.yaml"] = crd_yaml(info)
        files[f"docs/kinds/{info.singular}.md"] = page(info, sample)
    return files


def differences(root: Path) -> list[str]:
    """Paths of generated files that are missing, differ, or should not be there."""
    files = generated_files(root)
    wrong = [path for path, text in files.items() if _read(root / path) != text]
    return sorted([*wrong, *_surplus(root, files)])


def write(root: Path) -> None:
    """Brings the generated files below `root` up to date."""
    files = generated_files(root)
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    for path in _surplus(root, files):
        (root / path).unlink()


def _surplus(root: Path, files: Mapping[str, str]) -> list[str]:
    there = [
        path.relative_to(root).as_posix() for folder, glob in GENERATED for path in (root / folder).glob(glob)
    ]
    return [path for path in there if path not in files]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write CRDs and the pages of the kinds from the models.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file differs")
    parser.add_argument("root", nargs="?", type=Path, default=Path(), help="the project's folder")
    options = parser.parse_args(arguments)
    if not options.check:
        write(options.root)
        return 0
    wrong = differences(options.root)
    if wrong:
        sys.stderr.write(f"Generated files differ; run `make generate`: {', '.join(wrong)}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
