"""`python -m generate [--check]`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from generate.parts import find_helm, problems, write
from testbed.errors import TestbedError
from testbed.paths import project_root
from testbed.progress import Progress

NO_HELM = "helm is missing and Go, which would build it, too: what is rendered from the chart"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 when everything is current, 1 with a sentence otherwise."""
    parser = argparse.ArgumentParser(prog="python -m generate", description="Write all generated files.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is not current")
    parser.add_argument("root", nargs="?", type=Path, default=project_root(), help="the project's folder")
    options = parser.parse_args(arguments)
    try:
        helm = find_helm(Progress())
        return _check(options.root, helm) if options.check else _write(options.root, helm)
    except TestbedError as error:
        print(f"Files cannot be generated: {error}", file=sys.stderr)
        return 1


def _check(root: Path, helm: Path | None) -> int:
    if helm is None:
        print(f"{NO_HELM} was not compared.", file=sys.stderr)
    said = problems(root, helm)
    for sentence in said:
        print(sentence, file=sys.stderr)
    return 1 if said else 0


def _write(root: Path, helm: Path | None) -> int:
    write(root, helm)
    if helm is None:
        print(f"{NO_HELM} was not written; put helm or Go on PATH.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
