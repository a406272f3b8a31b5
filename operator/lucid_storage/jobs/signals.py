"""SIGTERM, as a worker takes it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable


def on_sigterm(act: Callable[[], None]) -> None:
    """Has `act` called in a thread of its own when SIGTERM comes. To be called once, from the main thread.

    A handler would run in the main thread, between any two of its instructions: also where that one holds the lock of
    the very event that the handler sets, and then both wait for ever. Python's documentation of `signal`, "Signals and
    threads", warns of it. The number of a signal is written to the pipe at once, even amid a long call.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    threading.Thread(target=_wait, args=(reading, act), name="signals", daemon=True).start()


def _wait(reading: int, act: Callable[[], None]) -> None:
    while os.read(reading, 1) != bytes([signal.SIGTERM]):
        pass
    act()
