"""Extended attributes, with POSIX ACLs and file capabilities among them: the kernel keeps all of them so."""

from __future__ import annotations

import errno
import os
import stat
import struct
from pathlib import Path
from typing import Final

_NONE: Final = frozenset({errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.EACCES, errno.ENOENT})
"""No such attribute, or none that this process may see."""
_REFUSED: Final = frozenset({errno.EPERM, errno.EACCES, errno.EINVAL})
"""EINVAL is the answer to an access list of users whom the process's user namespace does not have."""
_NOT_KEPT: Final = frozenset({errno.ENOTSUP, errno.E2BIG, errno.ERANGE})
"""Of a file system without attributes, or without such large ones or such long names."""
_LARGEST: Final = 64 * 1024
"""Bytes of a value: xattr(7)."""

ACCESS_LIST: Final = b"system.posix_acl_access"
"""Of who may do what, beside the owner and the group: acl(5)."""
_LISTS: Final = (ACCESS_LIST, b"system.posix_acl_default")
_HEADER_BYTES: Final = 4
_ENTRY: Final = struct.Struct("<HHI")
"""Tag, rights, id: linux/posix_acl_xattr.h."""
_GROUP: Final = 0x04
"""The owning group's tag: linux/posix_acl.h."""

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


def set_extended(
    target: Target, attributes: tuple[tuple[bytes, bytes], ...], root: Path
) -> tuple[bytes, ...]:
    """Sets them; returns the names of those that this process may not set, or the file system does not keep.
    Raises OSError, where the disk that `root` is on is full too.
    """
    follow = isinstance(target, int)
    refused = []
    for name, value in attributes:
        try:
            os.setxattr(target, name, value, follow_symlinks=follow)
        except OSError as error:
            if error.errno not in _REFUSED and not is_not_kept(error, root):
                raise
            refused.append(name)
    return tuple(refused)


def is_not_kept(error: OSError, disk: Target | Path) -> bool:
    """Whether an attribute was refused since its file system keeps none, or none so large: ext4 gives all of an inode's
    about 4 KiB, and says that the disk is full.
    """
    if error.errno != errno.ENOSPC:
        return error.errno in _NOT_KEPT
    room = os.statvfs(disk)
    return room.f_bavail * room.f_frsize > 2 * _LARGEST


def remove_lists(path: Path) -> None:
    """Of a new folder, and so of all that will be made in it: what it inherited of the folder that it lies in."""
    for name in _LISTS:
        try:
            os.removexattr(path, name)
        except OSError as error:
            if error.errno not in _NONE:
                raise


def without_list(mode: int, access_list: bytes) -> int:
    """The mode of an entry that cannot have its access list: with one, the group's bits are the most that anybody on
    the list may do, and what the group itself may do stands in the list.
    """
    entries = access_list[_HEADER_BYTES:]
    if len(access_list) < _HEADER_BYTES or len(entries) % _ENTRY.size:
        return mode & ~stat.S_IRWXG  # of no kernel: nobody knows what it was to allow
    rights: int = next((rights for tag, rights, _ in _ENTRY.iter_unpack(entries) if tag == _GROUP), 0)
    return mode & (~stat.S_IRWXG | rights << 3)
