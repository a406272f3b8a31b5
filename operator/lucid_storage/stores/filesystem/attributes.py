"""Extended attributes, with POSIX ACLs and file capabilities among them: the kernel keeps all of them so."""

from __future__ import annotations

import errno
import os
from typing import Final

_NONE: Final = frozenset({errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.EACCES, errno.ENOENT})
"""No such attribute, or none that this process may see."""
_REFUSED: Final = frozenset({errno.ENOTSUP, errno.EPERM, errno.EACCES})

Target = int | bytes


def extended(target: Target) -> tuple[tuple[bytes, bytes], ...]:
    """Name and value of each attribute, in order of the names. A path is not followed where it is a link."""
    follow = isinstance(target, int)
    try:
        names = os.listxattr(target, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _NONE:
            return ()
        raise
    found = []
    for name in sorted(os.fsencode(name) for name in names):
        try:
            found.append((name, os.getxattr(target, name, follow_symlinks=follow)))
        except OSError as error:
            if error.errno not in _NONE:
                raise
    return tuple(found)


def set_extended(target: Target, attributes: tuple[tuple[bytes, bytes], ...]) -> int:
    """Sets them; returns how many this process may not set, or the file system does not keep."""
    follow = isinstance(target, int)
    refused = 0
    for name, value in attributes:
        try:
            os.setxattr(target, name, value, follow_symlinks=follow)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            refused += 1
    return refused
