"""One line a step, with elapsed seconds."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Progress:
    """Prints `[ total s] step: seconds`; a step that takes long says every 15 s that it is still at work."""

    def __init__(self, stream: TextIO | None = None, patience: float = 15) -> None:
        self._stream = stream
        self._patience = patience
        self._begin = time.monotonic()
        self._lock = threading.Lock()

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        begin = time.monotonic()
        over = threading.Event()
        beat = threading.Thread(target=self._beat, args=(what, begin, over), daemon=True)
        beat.start()
        try:
            yield
        except BaseException:
            self.say(f"{what}: failed after {time.monotonic() - begin:.1f} s")
            raise
        else:
            self.say(f"{what}: {time.monotonic() - begin:.1f} s")
        finally:
            over.set()
            beat.join()

    def say(self, line: str) -> None:
        """Prints the line as it is, with the elapsed time before it."""
        with self._lock:
            stream = self._stream or sys.stderr
            print(f"[{time.monotonic() - self._begin:6.1f} s] {line}", file=stream, flush=True)

    def _beat(self, what: str, begin: float, over: threading.Event) -> None:
        if over.wait(2):
            return
        self.say(f"{what} ...")
        while not over.wait(self._patience):
            self.say(f"{what} ... {time.monotonic() - begin:.0f} s so far")


class Silent(Progress):
    """For tests: says nothing."""

    def say(self, line: str) -> None:
        del line
