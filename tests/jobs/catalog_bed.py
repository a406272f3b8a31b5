"""The commands that look into a destination, run as a person runs them: with a folder and a key, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

from workshop import Workshop


def command(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Without anything that the operator or a worker would know."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("LUCID_", "AWS_"))}
    return subprocess.run(
        [sys.executable, "-m", "lucid_storage", *arguments],
        env={**bare, **environ},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def folder_of(shop: Workshop) -> list[str]:
    return ["--folder", str(shop.destination), "--keys", str(shop.keys)]


def flip(path: Path) -> None:
    """One bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
