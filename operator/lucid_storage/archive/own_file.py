"""A file of ours in a folder that others write to: what they put in its place is refused, never followed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

from lucid_storage.errors import LucidError, Reason

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OWNERS: Final = 0o600


def open_own(path: Path) -> BinaryIO | None:
    """For reading; None where there is nothing of that name. Raises LucidError(AccessDenied).

    To open a FIFO would wait for a writer for ever, and a link leads out of the volume: what is looked at is what was
    opened, since a name can mean another file a moment later.
    """
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        return None
    except OSError as error:
        if path.is_symlink():
            raise _irregular(path) from error
        raise LucidError(
            f"{path.name} cannot be read ({error.strerror}).", reason=Reason.ACCESS_DENIED
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _irregular(path)
    return os.fdopen(descriptor, "rb")


def open_draft(path: Path) -> BinaryIO:
    """A new file, for writing, in the place of what a process that died left there. Raises OSError.

    What is made between removal and opening is not written to.
    """
    path.unlink(missing_ok=True)
    descriptor = os.open(path, _NEW, _OWNERS)
    try:
        if os.fstat(descriptor).st_mode & _OWNERS != _OWNERS:
            os.fchmod(descriptor, _OWNERS)  # a default access list of the folder decides before: acl(5)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "wb")


def put_in_place(draft: Path, file: BinaryIO, path: Path) -> None:
    """The draft becomes the file, written out to the disk: the old one or the new one is there, whoever dies."""
    file.flush()
    os.fsync(file.fileno())
    file.close()
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _irregular(path: Path) -> LucidError:
    return LucidError(f"{path.name} is no regular file; remove it.", reason=Reason.ACCESS_DENIED)
