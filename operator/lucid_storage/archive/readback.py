"""A file that is being written, read back from its disk while more of it comes.

At the end alone this would be a second pass over a backup of hundreds of GB. What is read shall come from the disk, so
it is synced and dropped from memory first.
"""

from __future__ import annotations

import hashlib
import os
import threading
from queue import SimpleQueue
from typing import Final

from lucid_storage.archive.destination import Digest

STEP_BYTES: Final = 32 * 1024 * 1024
"""Synced and read back at once. Whole pages: of the kernel's memory only such are dropped (posix_fadvise(2))."""
_BLOCK: Final = 1024 * 1024


class ReadBack:
    """Of one file, which is written from its beginning to its end. Call `end` before the file is closed.

    What the disk refuses is kept for `finish`, since the kernel tells an error of a file once (fsync(2)).
    """

    def __init__(self, file: int, given_up: threading.Event) -> None:
        """`given_up` ends it early; nobody asks for the digest then."""
        self._file = file
        self._given_up = given_up
        self._written = 0
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._steps: SimpleQueue[int | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def wrote(self, size: int) -> None:
        """So many bytes more were written."""
        steps = self._written // STEP_BYTES
        self._written += size
        if self._written // STEP_BYTES > steps:
            self._steps.put(self._written // STEP_BYTES * STEP_BYTES)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="read back", daemon=True)
                self._thread.start()

    def finish(self) -> Digest:
        """Of what the disk holds. Returns when all is durable and was read. Raises OSError."""
        self.end()
        if self._error is not None:
            raise self._error
        os.fsync(self._file)
        self._read(None)
        return Digest(self._size, self._sha256.hexdigest())

    def end(self) -> None:
        """Waits for the thread, which nothing is left of then; harmless at any time."""
        if self._thread is not None:
            self._steps.put(None)
            self._thread.join()

    def _run(self) -> None:
        try:
            while (until := self._steps.get()) is not None:
                os.fdatasync(self._file)
                self._read(until)
        except OSError as error:
            self._error = error

    def _read(self, until: int | None) -> None:
        """On to there, or to the end. What is shorter or other than it was written shows in the digest."""
        os.posix_fadvise(self._file, self._size, 0, os.POSIX_FADV_DONTNEED)
        while (until is None or self._size < until) and not self._given_up.is_set():
            wanted = _BLOCK if until is None else min(_BLOCK, until - self._size)
            block = os.pread(self._file, wanted, self._size)
            if not block:
                return
            self._sha256.update(block)
            self._size += len(block)
