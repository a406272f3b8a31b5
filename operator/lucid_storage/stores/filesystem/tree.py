"""The entries of a mounted file system, in one order, so that two walks of equal trees give equal sequences.

Names are bytes: a file system knows no encoding. Somebody may write meanwhile: what vanishes is left out, and what
cannot be read is an error, never silently skipped.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from lucid_storage.errors import AccessDeniedError, LucidError

OWN_OF_EXT4: Final = b"lost+found"
"""Made by mkfs at the root of a file system; not the users'."""
_TELLS_NO_HOLES: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What lseek(2) answers with SEEK_DATA where the file system does not know it."""

_PLACE: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class EntryKind(StrEnum):
    """What an entry is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"
    SOCKET = "socket"
    CHARACTER = "character"
    BLOCK = "block"


_KINDS: Final = {
    stat.S_IFREG: EntryKind.FILE,
    stat.S_IFDIR: EntryKind.DIRECTORY,
    stat.S_IFLNK: EntryKind.SYMLINK,
    stat.S_IFIFO: EntryKind.FIFO,
    stat.S_IFSOCK: EntryKind.SOCKET,
    stat.S_IFCHR: EntryKind.CHARACTER,
    stat.S_IFBLK: EntryKind.BLOCK,
}


@dataclass(frozen=True, slots=True)
class Node:
    """One entry. `path` is below the root, b"" for the root itself."""

    path: bytes
    full: bytes
    """Opens it, as long as the walk stands here: through its folder's descriptor, so that no link leads elsewhere."""
    kind: EntryKind
    stat: os.stat_result

    def open(self) -> int:
        """A descriptor of a file; it must be closed. Raises FileNotFoundError, UnreadableError, LucidError."""
        try:
            return os.open(self.full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise
        except PermissionError as error:
            raise UnreadableError(unreadable(1)) from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise FileNotFoundError(errno.ENOENT, "a link stands there now") from error
            raise disk_error(error) from error


class UnreadableError(AccessDeniedError):
    """Entries that this process may not read."""


def kind_of(mode: int) -> EntryKind:
    """Of st_mode."""
    return _KINDS[stat.S_IFMT(mode)]


def walk(root: str | bytes, *, skip: frozenset[bytes] = frozenset()) -> Iterator[Node]:
    """The root, then everything below it, a directory before its entries, entries in order of their names' bytes.

    lost+found and `skip` at the root are left out, and other file systems mounted below are not entered.
    Raises UnreadableError for a directory that may not be listed, LucidError when the disk does not give it.
    """
    base = os.fsencode(root)
    top = os.stat(base)  # noqa: PTH116 - names are bytes, which pathlib does not know
    yield Node(b"", base, kind_of(top.st_mode), top)
    opened: list[tuple[int, Iterator[Node]]] = []
    try:
        _enter(opened, base, b"", skip | {OWN_OF_EXT4}, follow=True)
        while opened:
            node = next(opened[-1][1], None)
            if node is None:
                os.close(opened.pop()[0])
                continue
            yield node
            if node.kind is EntryKind.DIRECTORY and node.stat.st_dev == top.st_dev:
                _enter(opened, node.full, node.path, frozenset(), follow=False)
    finally:
        for descriptor, _ in opened:
            os.close(descriptor)


def _enter(
    opened: list[tuple[int, Iterator[Node]]],
    full: bytes,
    path: bytes,
    left_out: frozenset[bytes],
    *,
    follow: bool,
) -> None:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(full, flags)
    except (FileNotFoundError, NotADirectoryError):
        return  # gone, or another thing by now
    except PermissionError as error:
        raise UnreadableError(unreadable(1)) from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            return  # a link stands there now
        raise disk_error(error) from error
    try:
        names = sorted(os.fsencode(name) for name in os.listdir(descriptor))  # noqa: PTH208 - of a descriptor
    except OSError as error:
        os.close(descriptor)
        raise disk_error(error) from error
    opened.append((descriptor, _nodes(descriptor, path, [n for n in names if n not in left_out])))


def _nodes(descriptor: int, path: bytes, names: list[bytes]) -> Iterator[Node]:
    below = path + b"/" if path else b""
    for name in names:
        try:
            seen = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        except FileNotFoundError:
            continue
        except PermissionError as error:
            raise UnreadableError(unreadable(1)) from error
        except OSError as error:
            raise disk_error(error) from error
        yield Node(below + name, b"/proc/self/fd/%d/%s" % (descriptor, name), kind_of(seen.st_mode), seen)


@contextmanager
def folder_of(root: int | Path, path: bytes) -> Iterator[tuple[int, bytes]]:
    """A descriptor of the folder that an entry below the root lies in, for the *at calls, and the entry's name there.

    No link on the way is followed, and the path may be longer than the kernel takes at once. Raises OSError.
    """
    *folders, name = path.split(b"/")
    descriptor = os.dup(root) if isinstance(root, int) else os.open(root, _PLACE)
    try:
        for folder in folders:
            below = os.open(folder, _PLACE | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor, name
    finally:
        os.close(descriptor)


def unreadable(count: int) -> str:
    """The sentence about entries that this process may not read. Names are users' data and are not in it."""
    return (
        f"{count} or more files or folders of the volume may not be read by the user {os.getuid()} of this worker;"
        " set spec.copy.runAsUser (and runAsGroup) of the Volume to the owner of the files."
    )


def disk_error(error: OSError) -> LucidError:
    """The disk's own words, without a path."""
    return LucidError(
        f"The volume cannot be read: {error.strerror or 'unknown error'} (errno {error.errno})."
    )


def data_ranges(descriptor: int, size: int) -> list[tuple[int, int]] | None:
    """(offset, length) of what a sparse file holds; None for a file without holes, or where nobody knows.

    Raises OSError when the disk does not tell: what is no known data must not be taken for a hole.
    """
    if size == 0 or os.fstat(descriptor).st_blocks * 512 >= size:
        return None
    ranges: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
            if start >= size:
                break
            end = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end of the file
                break
            if error.errno in _TELLS_NO_HOLES:
                return None
            raise
        if end <= start:
            return None  # a hole was made there in between: nobody knows what follows
        ranges.append((start, end - start))
        at = end
    return None if ranges == [(0, size)] else ranges
