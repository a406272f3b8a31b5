"""How a worker tells what it does: progress as JSON lines on standard output, the result as termination message.

A pod has no token for the API server. The operator reads the end of the pod's log and the message that the kubelet
keeps of a container that ended, which holds at most 4,096 bytes.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import TextIO

from lucid_storage.models.orders import TERMINATION_PATH, TERMINATION_VARIABLE, Message, Progress

TERMINATION_BYTES = 4096
"""What the kubelet keeps of it (Kubernetes documentation, "Determine the Reason for Pod Failure")."""
PERIOD_SECONDS = 1.0
"""Between two lines about the same phase."""
MESSAGE_CHARACTERS = 900


class Reporter:
    """Counts what is done. Safe to call from several threads."""

    def __init__(
        self, *, out: TextIO | None = None, clock: Callable[[], float] = monotonic, phase: str = "Running"
    ) -> None:
        self._out = out or sys.stdout
        self._clock = clock
        self._lock = threading.Lock()
        self._progress = Progress(phase=phase)
        self._told = float("-inf")

    def phase(self, name: str, total_bytes: int | None = None) -> None:
        """A new phase begins; counting starts anew. Told at once."""
        with self._lock:
            self._progress = Progress(phase=name, total_bytes=total_bytes)
            self._tell(always=True)

    def expect(self, size: int) -> None:
        """So many bytes more will be done in this phase."""
        with self._lock:
            total = (self._progress.total_bytes or 0) + size
            self._progress = self._progress.model_copy(update={"total_bytes": total})

    def add(self, size: int, documents: int = 0) -> None:
        """So much more was done."""
        with self._lock:
            now = self._progress
            done = {"done_bytes": now.done_bytes + size, "done_documents": now.done_documents + documents}
            self._progress = now.model_copy(update=done)
            self._tell()

    def _tell(self, *, always: bool = False) -> None:
        now = self._clock()
        if always or now - self._told >= PERIOD_SECONDS:
            self._told = now
            self._line("progress", self._progress)

    def _line(self, name: str, message: Message) -> None:
        document = message.model_dump(mode="json", by_alias=True, exclude_none=True)
        print(json.dumps({name: document}, separators=(",", ":")), file=self._out, flush=True)

    def result(self, message: Message, environ: Mapping[str, str]) -> None:
        """The last words. Raises OSError when the termination message cannot be written."""
        with self._lock:
            Path(environ.get(TERMINATION_VARIABLE, TERMINATION_PATH)).write_text(packed(message), "utf-8")
            self._line("result", message)


def packed(message: Message) -> str:
    """JSON of at most TERMINATION_BYTES: sentences are shortened before anything else is lost."""
    for characters in (MESSAGE_CHARACTERS, 300, 100):
        document = _shortened(
            message.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True),
            characters,
        )
        text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
        if len(text.encode()) <= TERMINATION_BYTES:
            return text
    raise ValueError("a worker's result does not fit a termination message")


def _shortened(value: object, characters: int) -> object:
    if isinstance(value, dict):
        return {key: _shortened(item, characters) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortened(item, characters) for item in value]
    if isinstance(value, str) and len(value) > characters:
        return f"{value[: characters - 1]}…"
    return value
