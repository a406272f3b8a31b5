"""What a copy keeps of an entry besides its contents: owner, mode, times, extended attributes.

A process without privileges cannot give files away. What could not be kept is told, never left out in silence; setuid
and setgid bits are then left off, since they would mean another user.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.filesystem.attributes import Target, extended, is_not_kept
from lucid_storage.stores.filesystem.content import digest_number
from lucid_storage.stores.filesystem.tree import EntryKind, Node

KEPT_PREFIXES = (b"user.", b"trusted.", b"security.capability", b"system.posix_acl_")
"""Extended attributes of the data. Others (SELinux labels, what network file systems show) are the mount's own."""
_IDENTITY_BITS = stat.S_ISUID | stat.S_ISGID
_GIVEN_BY_KUBELET = stat.S_IRWXU | stat.S_IRWXG | stat.S_ISGID
"""Bits that the kubelet adds to the top folder of a volume that it gives to an fsGroup (kubernetes,
pkg/volume/volume_linux.go: rwMask, execMask, setgid)."""
_REFUSED = frozenset({errno.EPERM, errno.EACCES})


@dataclass(frozen=True, slots=True)
class Kept:
    """What could be set of an entry's attributes."""

    owner: bool = True
    xattrs: bool = True
    mode: bool = True
    times: bool = True

    @property
    def all(self) -> bool:
        return self.owner and self.xattrs and self.mode and self.times


def xattrs(target: Target) -> dict[bytes, bytes]:
    """The data's extended attributes of an entry. Raises OSError."""
    return {name: value for name, value in extended(target) if name.startswith(KEPT_PREFIXES)}


def put(target: Target, kind: EntryKind, wanted: os.stat_result, attributes: Mapping[bytes, bytes]) -> Kept:
    """Give an entry, by its path or descriptor, the attributes of another one.

    In this order, since a new owner clears setuid bits and capabilities, and an access list changes the mode.
    Raises OSError for anything but a lack of rights, LucidError where the file system knows no such attributes.
    """
    follow = isinstance(target, int)
    owner = _give(target, wanted, follow=follow)
    kept = _put_xattrs(target, attributes, follow=follow)
    mode = kind is EntryKind.SYMLINK or _set_mode(target, kind, wanted, owner=owner)
    times = (wanted.st_atime_ns, wanted.st_mtime_ns)
    timed = _allowed(lambda: os.utime(target, ns=times, follow_symlinks=follow))
    return Kept(owner=owner, xattrs=kept, mode=mode, times=timed)


def same_owner(ours: os.stat_result, theirs: os.stat_result) -> bool:
    return (ours.st_uid, ours.st_gid) == (theirs.st_uid, theirs.st_gid)


def same_mode(source: os.stat_result, copy: os.stat_result) -> bool:
    """Whether a copy has the mode that it should have."""
    differing = stat.S_IMODE(source.st_mode) ^ stat.S_IMODE(copy.st_mode)
    return differing & ~(0 if same_owner(source, copy) else _IDENTITY_BITS) == 0


def same_top_mode(source: os.stat_result, copy: os.stat_result) -> bool:
    """Whether all who came into a volume still can, and nobody else; its fsGroup is the mount's own."""
    old, new = stat.S_IMODE(source.st_mode), stat.S_IMODE(copy.st_mode)
    return not old & ~new and not new & ~old & ~_GIVEN_BY_KUBELET


def same_time(source: os.stat_result, copy: os.stat_result) -> bool:
    """Whether a time is the same as far as the copy's file system can tell: ext4 with small inodes and some network
    file systems know whole seconds or microseconds only.
    """
    wanted, found = source.st_mtime_ns, copy.st_mtime_ns
    return wanted == found or any(found == wanted // unit * unit for unit in (10**9, 10**3, 100))


def stamp(node: Node) -> int:
    """Changes with every write, rename and change of attributes: the kernel sets ctime, and users cannot."""
    seen = node.stat
    told = (
        seen.st_mode,
        seen.st_size,
        seen.st_uid,
        seen.st_gid,
        seen.st_mtime_ns,
        seen.st_ctime_ns,
        seen.st_ino,
        seen.st_nlink,
    )
    return digest_number(node.path, repr(told).encode())


def _allowed(call: Callable[[], object]) -> bool:
    try:
        call()
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        return False
    return True


def _give(target: Target, wanted: os.stat_result, *, follow: bool) -> bool:
    present = os.stat(target, follow_symlinks=follow)
    if same_owner(present, wanted):
        return True
    if _allowed(lambda: os.chown(target, wanted.st_uid, wanted.st_gid, follow_symlinks=follow)):
        return True
    if present.st_gid != wanted.st_gid:  # to a group of ours a file of ours may be given
        _allowed(lambda: os.chown(target, -1, wanted.st_gid, follow_symlinks=follow))
    return False


def _put_xattrs(target: Target, wanted: Mapping[bytes, bytes], *, follow: bool) -> bool:
    present = xattrs(target)
    kept = True
    for name, value in wanted.items():
        if present.get(name) != value:
            kept &= _put_xattr(target, name, value, follow=follow)
    for name in present.keys() - wanted.keys():
        kept &= _allowed(partial(os.removexattr, target, name, follow_symlinks=follow))
    return kept


def _put_xattr(target: Target, name: bytes, value: bytes, *, follow: bool) -> bool:
    try:
        return _allowed(lambda: os.setxattr(target, name, value, follow_symlinks=follow))
    except OSError as error:
        if not is_not_kept(error, target):
            raise
        raise LucidError(
            "The new volume's file system keeps no extended attributes, or none as large as files of the old one have;"
            " choose another class, or remove the attributes (setfattr -x).",
            reason=Reason.NOT_SUPPORTED,
        ) from error


def _set_mode(target: Target, kind: EntryKind, wanted: os.stat_result, *, owner: bool) -> bool:
    mode = stat.S_IMODE(wanted.st_mode)
    if not owner and kind is not EntryKind.DIRECTORY:
        mode &= ~_IDENTITY_BITS
    if stat.S_IMODE(os.stat(target).st_mode) == mode:
        return True
    return _allowed(lambda: os.chmod(target, mode))
