"""The end of the process, which must not depend on anything that could wait for ever."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

logger = logging.getLogger(__name__)

ENDING_SECONDS = 12.0
"""How long an end in order may take: two requests to a silent API server (3 s each) fit, and beside them the answers
that the REST API still gives (6 s). A pod has 30 s (terminationGracePeriodSeconds) before it is killed.
"""
CALLS = 3
"""How many of the innermost calls are told."""


class Deadline:
    """Ends the process at once when it has not ended `seconds` after `begin`. A thread of its own watches, so that
    neither a task that never ends nor a thread that others wait for holds it up.

    The leader lease is then left to run out, since what still runs may be about to write.
    """

    def __init__(self, seconds: float = ENDING_SECONDS) -> None:
        self._seconds = seconds
        self._timer: threading.Timer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self) -> None:
        """Callable more than once; the first call counts."""
        if self._timer is not None:
            return
        with suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        self._timer = threading.Timer(self._seconds, self._over)
        self._timer.daemon = True
        self._timer.start()

    def _over(self) -> None:
        try:
            logger.critical(
                "the process did not end in order within %.0f s and ends at once; what it waited for: %s",
                self._seconds,
                "; ".join(self._waits()) or "not known",
            )
            logging.shutdown()
        finally:
            os._exit(1)

    def _waits(self) -> Iterator[str]:
        """Tasks and threads with where they are; nothing of what they work on."""
        if self._loop is not None:
            for task in asyncio.all_tasks(self._loop):
                yield f"task {task.get_name()} in {_innermost(list(_awaited(task.get_coro())))}"
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            if ident != threading.get_ident():
                yield f"thread {names.get(ident, ident)} in {_innermost(list(_called(frame)))}"


def _awaited(coroutine: object) -> Iterator[FrameType]:
    """Frames of a coroutine and of what it waits for, the outermost first."""
    while True:
        frame = getattr(coroutine, "cr_frame", None)
        if frame is None:
            return
        yield frame
        coroutine = coroutine.cr_await  # type: ignore[attr-defined]


def _called(innermost: FrameType) -> Iterator[FrameType]:
    """Frames of a thread, the outermost first."""
    stack: list[FrameType] = []
    frame: FrameType | None = innermost
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    return reversed(stack)


def _innermost(frames: Sequence[FrameType]) -> str:
    calls = [
        f"{f.f_code.co_qualname} ({Path(f.f_code.co_filename).name}:{f.f_lineno})" for f in frames[-CALLS:]
    ]
    return " from ".join(reversed(calls)) or "nothing"
