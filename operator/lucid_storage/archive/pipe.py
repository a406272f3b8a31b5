"""Bytes from one thread to another, at most so many at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator


class Pipe:
    """Bounded by bytes, so that a slow reader slows the writer down. What failed on one side is raised on both."""

    def __init__(self, limit: int) -> None:
        """`limit` in bytes; one piece is taken whatever its size."""
        self._limit = limit
        self._pieces: deque[bytes | bytearray] = deque()
        self._size = 0
        self._closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def put(self, piece: bytes | bytearray) -> None:
        """Waits for room. Raises what the pipe failed with, and ValueError when it was closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._error is not None or not self._size or self._size + len(piece) <= self._limit
            )
            self._raise_error()
            if self._closed:
                raise ValueError("a write after the end")
            if piece:
                self._pieces.append(piece)
                self._size += len(piece)
                self._changed.notify_all()

    def raise_failure(self) -> None:
        """Raises what the pipe failed with, if it did."""
        with self._changed:
            self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Nothing more will be put."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """The first error holds; what was not yet read is dropped."""
        with self._changed:
            if self._error is None:
                self._error = error
            self._pieces.clear()
            self._size = 0
            self._changed.notify_all()

    def take(self) -> bytes | bytearray | None:
        """The next piece; None for ever once the pipe was closed and is empty. Raises what it failed with."""
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or self._closed or bool(self._pieces))
            self._raise_error()
            if not self._pieces:
                return None
            piece = self._pieces.popleft()
            self._size -= len(piece)
            self._changed.notify_all()
            return piece

    def __iter__(self) -> Iterator[bytes | bytearray]:
        """The pieces in order, until the pipe was closed. Raises what it failed with."""
        while (piece := self.take()) is not None:
            yield piece
