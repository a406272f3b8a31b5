"""Software fetched once into the cache."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from testbed.errors import TestbedError
from testbed.locks import alone
from testbed.paths import cache_dir


def once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache, filled by `make` when it is not there yet.

    `make` gets an empty folder; only when it returns does the folder take its name, so that an interrupted
    download is never taken for a whole one. Parallel callers wait for the first.
    """
    folder = cache_dir() / name
    if folder.is_dir():
        return folder
    with alone(cache_dir() / f"{name}.lock"):
        if folder.is_dir():
            return folder
        draft = cache_dir() / f"{name}.partial"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        make(draft)
        draft.rename(folder)
    return folder


def run(command: Sequence[str | Path], advice: str) -> str:
    """The output of a command; raises TestbedError with `advice` and the last lines when it fails."""
    words = [str(word) for word in command]
    try:
        answer = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise TestbedError(f"{words[0]} is not installed. {advice}") from error
    if answer.returncode != 0:
        tail = "\n".join(answer.stdout.splitlines()[-15:])
        raise TestbedError(f"{' '.join(words)} failed. {advice}\n{tail}")
    return answer.stdout
