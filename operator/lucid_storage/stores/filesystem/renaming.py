"""A rename that never replaces what is there: the os module has none."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1
_NOT_KNOWN: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})
"""What renameat2(2) answers where the kernel or the file system (NFS) does not know the flag."""


def rename_new(source: bytes, target: bytes) -> None:
    """Raises FileExistsError when something is at `target`, and OSError.

    Where the file system knows no such rename, what comes there between the look and the rename is replaced.
    """
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None:
        if call(_AT_FDCWD, source, _AT_FDCWD, target, ctypes.c_uint(_RENAME_NOREPLACE)) == 0:
            return
        code = ctypes.get_errno()
        if code not in _NOT_KNOWN:
            raise OSError(code, os.strerror(code))
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(source, target)  # noqa: PTH104 - names are bytes, which pathlib does not know
