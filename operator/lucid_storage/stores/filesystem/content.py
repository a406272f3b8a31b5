"""Contents of files: copied with their holes, and compared byte by byte.

Both happen in pieces of bounded size, so that memory does not depend on the data.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from hashlib import sha256

COPY_BYTES = 16 * 1024 * 1024
"""Handed to the kernel at once; between two of them the work can be stopped."""
BLOCK_BYTES = 1024 * 1024
"""Compared at once. Also the block of the content's digest, so it does not change within a format."""
ZEROS = bytes(BLOCK_BYTES)
_NO_FAST_PATH = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})
"""What copy_file_range(2) answers where it cannot serve, and sandboxes that forbid it."""

Told = Callable[[int], None]
"""Told of so many bytes more; raises to stop the work."""


def digest_number(*parts: bytes | bytearray) -> int:
    """A digest of 128 bits as a number. Sums of them (modulo 2**128) do not depend on order."""
    digest = sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return int.from_bytes(digest.digest()[:16], "big")


def digest_text(number: int) -> str:
    """32 hexadecimal digits of a sum of digests."""
    return f"{number % (1 << 128):032x}"


class Difference(Exception):  # noqa: N818 - a finding, no failure of the program
    """Two files do not have the same contents."""


def segments(fd: int, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """(start, end, whether there are data) of a file's range: what is no data is a hole, which reads as zeros.

    A file system that knows no holes tells everything as data. Raises OSError.
    """
    at = start
    while at < end:
        try:
            data = min(os.lseek(fd, at, os.SEEK_DATA), end)
        except OSError as error:
            if error.errno != errno.ENXIO:  # ENXIO: nothing but a hole up to the end of the file
                raise
            data = end
        if data > at:
            yield at, data, False
        if data >= end:
            return
        at = min(os.lseek(fd, data, os.SEEK_HOLE), end)
        yield data, at, True


def copy(source: int, target: int, size: int, told: Told) -> None:
    """Copy `size` bytes into an empty file, holes as holes. Raises OSError.

    A source that grew or shrank meanwhile gives a file that a comparison finds to be different.
    """
    os.ftruncate(target, size)
    fast = True
    for start, end, data in segments(source, 0, size):
        if not data:
            told(end - start)
            continue
        at = start
        while at < end:
            count = 0
            if fast:
                try:
                    count = os.copy_file_range(source, target, min(COPY_BYTES, end - at), at, at)
                except OSError as error:
                    if error.errno not in _NO_FAST_PATH:
                        raise
                    fast = False
            if not fast:
                count = _copy_piece(source, target, at, min(BLOCK_BYTES, end - at))
            if count == 0:
                return  # the source has become shorter
            at += count
            told(count)


def _copy_piece(source: int, target: int, at: int, size: int) -> int:
    piece = os.pread(source, size, at)
    view = memoryview(piece)
    while view:
        view = view[os.pwrite(target, view, at + len(piece) - len(view)) :]
    return len(piece)


class Comparer:
    """Compares two open files; one object serves one thread."""

    def __init__(self) -> None:
        self._ours, self._theirs = bytearray(BLOCK_BYTES), bytearray(BLOCK_BYTES)

    def digest(self, source: int, target: int, start: int, end: int, told: Told) -> int:
        """Digest of a range that both have alike; `start` is a multiple of BLOCK_BYTES.

        It is a sum over blocks that are not all zero, so it does not depend on which zeros are holes.
        Raises Difference, and OSError.
        """
        total = 0
        for at in range(start, end, BLOCK_BYTES):
            stop = min(at + BLOCK_BYTES, end)
            if _hole(source, at, stop) and _hole(target, at, stop):
                told(stop - at)
                continue
            total += self._block(source, target, at, stop - at)
            told(stop - at)
        return total

    def _block(self, source: int, target: int, at: int, size: int) -> int:
        ours, theirs = self._ours, self._theirs
        if not _read(source, ours, at, size) or not _read(target, theirs, at, size):
            raise Difference
        if size < BLOCK_BYTES:
            ours, theirs = ours[:size], theirs[:size]
        if ours != theirs:
            raise Difference
        return 0 if ours == ZEROS[:size] else digest_number(at.to_bytes(8, "big"), ours)


def _hole(fd: int, start: int, end: int) -> bool:
    try:
        return os.lseek(fd, start, os.SEEK_DATA) >= end
    except OSError as error:
        if error.errno == errno.ENXIO:
            return True
        raise


def _read(fd: int, into: bytearray, at: int, size: int) -> bool:
    """Whether the whole range could be read."""
    done = 0
    with memoryview(into) as view:
        while done < size:
            count = os.preadv(fd, [view[done:size]], at + done)
            if count == 0:
                return False
            done += count
    return True
