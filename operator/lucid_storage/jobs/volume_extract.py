"""An archive becomes a tree again, with everything that this process may set.

Entries come in the order of a walk, so a folder is finished as soon as an entry outside of it comes: its mode and times
are set then, and memory does not grow with the number of folders. Only folders that were made here are written into,
through their descriptors: no link in an archive leads elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from lucid_storage.archive.volume_digest import USER_ATTRIBUTES
from lucid_storage.archive.volume_tar import EntryType, TarEntry
from lucid_storage.archive.volume_untar import TarReader
from lucid_storage.errors import ArchiveDamagedError, LucidError, Reason
from lucid_storage.jobs.volume_left import LeftOff
from lucid_storage.stores.filesystem.attributes import ACCESS_LIST, Target, set_extended, without_list
from lucid_storage.stores.filesystem.tree import folder_of

_REFUSED: Final = frozenset({errno.EPERM, errno.EACCES, errno.EINVAL})
"""What a process without privileges gets for an owner that is not its own (EINVAL: none in its user namespace)."""
_IDENTITY_BITS: Final = stat.S_ISUID | stat.S_ISGID
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class Kept:
    """What could not be kept."""

    owners: int = 0
    attributes: int = 0
    devices: int = 0
    bits: int = 0
    """Entries without the setuid and setgid bits that they had: on a file they would mean another owner than its own,
    and of a group that the process is not in the kernel takes the bit off, without an error (chmod(2))."""
    times: int = 0
    taken: dict[bytes, int] = field(default_factory=dict)
    """Bits of modes that were left off, by path."""
    dated: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    """By path the time (ns) that the file system made of one that it does not know, and that one: a 32-bit time of NFS
    ends in 2106."""
    top: tuple[int, int, int] = (0o755, 0, 0)
    """Mode, user and group that the volume's top is to have. What it loses of them is counted when it gets them."""
    device_links: list[TarEntry] = field(default_factory=list)
    """Second names of device files, which early archives hold as hard links, and no tree has as such."""

    def describe(self) -> str:
        """A sentence, or nothing."""
        lost = [
            f"{count} {what}"
            for count, what in (
                (self.owners, "owners"),
                (self.attributes, "extended attributes"),
                (self.devices, "device files"),
                (self.bits, "setuid or setgid bits"),
                (self.times, "times"),
            )
            if count
        ]
        why = "Not kept, since the worker may not set them, or the volume's file system does not take them"
        return f"{why}: {', '.join(lost)}." if lost else ""


@dataclass(slots=True)
class _Folder:
    entry: TarEntry
    descriptor: int


@dataclass(slots=True)
class Extraction:
    """Fills one empty folder. Raises ArchiveDamagedError, LucidError (NotEnoughSpace) and LucidError."""

    root: Path
    check: Callable[[], None]
    report: Callable[[int, int], None]
    kept: Kept = field(default_factory=Kept)
    _open: list[_Folder] = field(default_factory=list)
    _left: LeftOff = field(init=False)
    _devices: dict[bytes, bool] = field(default_factory=dict)
    """Path of each device file, and whether it could be made."""

    def __post_init__(self) -> None:
        self._left = LeftOff(self.root)

    def run(self, reader: TarReader) -> Kept:
        """All entries, to the authenticated end."""
        try:
            try:
                for entry in reader.entries():
                    self.check()
                    self._one(entry, reader)
                while self._open:
                    self._close()
            finally:
                for folder in self._open:
                    os.close(folder.descriptor)
                self._left.close()
        except OSError as error:
            raise disk_refusal(error) from error
        return self.kept

    def _one(self, entry: TarEntry, reader: TarReader) -> None:
        if not entry.path:
            if self._open or entry.type is not EntryType.DIRECTORY:
                raise _misplaced()
            self._enter(entry, os.open(self.root, _FOLDER))
            return
        parent, _, name = entry.path.rpartition(b"/")
        while self._open and self._open[-1].entry.path != parent:
            self._close()
        if not self._open:
            raise _misplaced()
        at = self._open[-1].descriptor
        match entry.type:
            case EntryType.FILE:
                self._file(entry, name, at, reader)
                self.report(0, 1)
            case EntryType.DIRECTORY:
                os.mkdir(name, 0o700, dir_fd=at)
                self._enter(entry, os.open(name, _FOLDER, dir_fd=at))
            case EntryType.HARDLINK:
                self._hard_link(entry, name, at)
            case EntryType.SYMLINK:
                os.symlink(entry.link, name, dir_fd=at)
                self._dress_path(entry, name, at)
            case EntryType.FIFO:
                os.mkfifo(name, 0o600, dir_fd=at)
                self._dress_path(entry, name, at)
            case EntryType.CHARACTER | EntryType.BLOCK:
                self._device(entry, name, at)

    def _enter(self, entry: TarEntry, descriptor: int) -> None:
        """The users' attributes are set now: what is refused of them is noted in the order of a walk."""
        users = tuple(one for one in entry.xattrs if one[0].startswith(USER_ATTRIBUTES))
        others = tuple(one for one in entry.xattrs if one not in users)
        self._open.append(_Folder(replace(entry, xattrs=others), descriptor))
        self._attributed(replace(entry, xattrs=users), descriptor)

    def _file(self, entry: TarEntry, name: bytes, at: int, reader: TarReader) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=at)
        try:
            for offset, data in reader.contents():
                self.check()
                done = 0
                while done < len(data):
                    done += os.pwrite(descriptor, memoryview(data)[done:], offset + done)
                self.report(len(data), 0)
            os.ftruncate(descriptor, entry.size)  # a hole at the end
            self._dress(entry, descriptor)
        finally:
            os.close(descriptor)

    def _hard_link(self, entry: TarEntry, name: bytes, at: int) -> None:
        if entry.link in self._devices:
            self.kept.device_links.append(entry)
            if not self._devices[entry.link]:
                self.kept.devices += 1
                return
        with folder_of(self._open[0].descriptor, entry.link) as (folder, first):
            os.link(first, name, src_dir_fd=folder, dst_dir_fd=at, follow_symlinks=False)

    def _device(self, entry: TarEntry, name: bytes, at: int) -> None:
        kind = 0o020000 if entry.type is EntryType.CHARACTER else 0o060000
        try:
            os.mknod(name, kind | 0o600, os.makedev(*entry.device), dir_fd=at)
        except PermissionError:
            self.kept.devices += 1
            self._devices[entry.path] = False
            return
        self._devices[entry.path] = True
        self._dress_path(entry, name, at)

    def _close(self) -> None:
        """A folder is complete."""
        folder = self._open.pop()
        try:
            self._dress(folder.entry, folder.descriptor)
        finally:
            os.close(folder.descriptor)

    def _dress(self, entry: TarEntry, descriptor: int) -> None:
        """Owner first: changing it takes setuid bits and capabilities away. The mode may forbid to set attributes."""
        owned = self._owned(lambda uid, gid: os.fchown(descriptor, uid, gid), entry, os.fstat(descriptor))
        wanted = _mode(entry, self._attributed(entry, descriptor), owned=owned)
        if not entry.path:
            self.kept.top = (wanted, entry.uid, entry.gid)
            wanted |= stat.S_IRWXU  # it is looked into once more by this very process
        os.fchmod(descriptor, wanted)
        self._note_taken(entry, wanted, os.fstat(descriptor))
        os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        self._note_time(entry, os.fstat(descriptor))

    def _dress_path(self, entry: TarEntry, name: bytes, at: int) -> None:
        """Of what cannot be opened for it."""
        path = b"/proc/self/fd/%d/%s" % (at, name)

        def chown(uid: int, gid: int) -> None:
            os.chown(name, uid, gid, dir_fd=at, follow_symlinks=False)

        owned = self._owned(chown, entry, os.stat(name, dir_fd=at, follow_symlinks=False))
        refused = self._attributed(entry, path)
        if entry.type is not EntryType.SYMLINK:
            wanted = _mode(entry, refused, owned=owned)
            os.chmod(name, wanted, dir_fd=at)
            self._note_taken(entry, wanted, os.stat(name, dir_fd=at, follow_symlinks=False))
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=at, follow_symlinks=False)
        self._note_time(entry, os.stat(name, dir_fd=at, follow_symlinks=False))

    def _attributed(self, entry: TarEntry, target: Target) -> tuple[bytes, ...]:
        refused = set_extended(target, entry.xattrs, self.root)
        self.kept.attributes += len(refused)
        users = (one for one in entry.xattrs if one[0] in refused and one[0].startswith(USER_ATTRIBUTES))
        self._left.add(entry.path, tuple(users))
        return refused

    def _note_taken(self, entry: TarEntry, wanted: int, now: os.stat_result) -> None:
        """Which bits were left off on purpose, or by the kernel. Any other that is missing is a fault of the disk."""
        taken = entry.mode & ~now.st_mode & (_IDENTITY_BITS | ~wanted)
        if taken and entry.path:
            self.kept.taken[entry.path] = taken
            self.kept.bits += bool(taken & _IDENTITY_BITS)

    def _note_time(self, entry: TarEntry, now: os.stat_result) -> None:
        """In whole seconds, as they are compared."""
        if entry.path and now.st_mtime_ns // 10**9 != entry.mtime_ns // 10**9:
            self.kept.dated[entry.path] = (now.st_mtime_ns, entry.mtime_ns)
            self.kept.times += 1

    def _owned(self, chown: Callable[[int, int], None], entry: TarEntry, now: os.stat_result) -> bool:
        if (now.st_uid, now.st_gid) == (entry.uid, entry.gid):
            return True
        try:
            chown(entry.uid, entry.gid)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            self.kept.owners += bool(entry.path)
            return False
        return True


def _mode(entry: TarEntry, refused: tuple[bytes, ...], *, owned: bool) -> int:
    """Of an entry here. A folder's setgid bit only says which group its entries get."""
    mode = entry.mode
    if ACCESS_LIST in refused:
        mode = without_list(mode, dict(entry.xattrs)[ACCESS_LIST])
    return mode if owned or entry.type is EntryType.DIRECTORY else mode & ~_IDENTITY_BITS


def disk_refusal(error: OSError) -> LucidError:
    """What the target's file system says, without a path."""
    if error.errno in _FULL:
        return LucidError(
            "The volume is too small for what the backup holds; restore into a larger one.",
            reason=Reason.NOT_ENOUGH_SPACE,
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return LucidError(
            f"The user {os.getuid()} of this worker may not write into the volume ({error.strerror}); set"
            " spec.copy.runAsUser or fsGroup of the Volume.",
            reason=Reason.ACCESS_DENIED,
        )
    return LucidError(f"The volume cannot be written: {error.strerror} (errno {error.errno}).")


def _misplaced() -> ArchiveDamagedError:
    return ArchiveDamagedError(
        "The archive of the volume names an entry before its folder; it was not written by this operator."
    )
