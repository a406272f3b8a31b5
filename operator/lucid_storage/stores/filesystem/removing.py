"""The removal of what stands under a name, whatever it is: links are removed and never followed."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_KEEPS_OUT: Final = 0o700


@dataclass(slots=True)
class _Folder:
    name: bytes
    descriptor: int
    names: list[bytes]


def remove(path: Path) -> None:
    """A folder goes with all that is below it, though its modes keep their owner out. Nothing there is no error.

    Every step is made from the descriptor of the folder before: whoever moves folders or puts links in their places
    meanwhile leads it nowhere else. Raises OSError.
    """
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    opened: list[_Folder] = []
    try:
        _take(opened, parent, os.fsencode(path.name))
        while opened:
            folder = opened[-1]
            if folder.names:
                _take(opened, folder.descriptor, folder.names.pop())
                continue
            os.close(opened.pop().descriptor)
            os.rmdir(folder.name, dir_fd=opened[-1].descriptor if opened else parent)
    finally:
        for folder in opened:
            os.close(folder.descriptor)
        os.close(parent)


def _take(opened: list[_Folder], parent: int, name: bytes) -> None:
    """Remove one entry, or enter it where it is a folder."""
    try:
        seen = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(seen.st_mode):
        os.unlink(name, dir_fd=parent)
        return
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        this = b"/proc/self/fd/%d" % handle
        if seen.st_mode & _KEEPS_OUT != _KEEPS_OUT:
            os.chmod(this, _KEEPS_OUT)  # noqa: PTH101 - of a descriptor
        descriptor = os.open(this, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(handle)
    try:
        names = [os.fsencode(one) for one in os.listdir(descriptor)]  # noqa: PTH208 - of a descriptor
    except OSError:
        os.close(descriptor)
        raise
    opened.append(_Folder(name, descriptor, names))
