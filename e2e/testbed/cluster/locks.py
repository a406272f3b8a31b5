"""One at a time between processes."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.progress import Progress


@contextmanager
def exclusive(path: Path, what: str, progress: Progress) -> Iterator[None]:
    """Waits for others that hold the file's lock, and says so; the kernel gives it back at a crash."""
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step(f"Waiting for another {what}"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
