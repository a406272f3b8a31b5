"""A mounted volume as the entries of its archive, in the order of a walk."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from lucid_storage.archive.volume_digest import ContentHash, TreeDigest
from lucid_storage.archive.volume_tar import EntryType, TarEntry
from lucid_storage.errors import LucidError
from lucid_storage.stores.filesystem import keeping
from lucid_storage.stores.filesystem.attributes import extended
from lucid_storage.stores.filesystem.tree import (
    EntryKind,
    Node,
    UnreadableError,
    data_ranges,
    disk_error,
    folder_of,
    unreadable,
    walk,
)

READ_BYTES: Final = 1024 * 1024
_LINKED: Final = frozenset({EntryKind.FILE, EntryKind.SYMLINK, EntryKind.FIFO})
"""What is archived as a hard link under its second name. A worker that may make no device file would have nothing to
link to, and two device files of the same numbers are the same device."""
_OURS: Final = re.compile(
    rb"\.lucid-(checksums(\.new)?|restored(\.new)?|modes|attributes|restore-[0-9a-f]{12}|ready-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-[a-z0-9.-]+)"
)
"""Names that a check and a restore give at the top of a volume, in full: users' own names may begin alike."""
_NO_MORE: Final[tuple[bytes | None, tuple[tuple[bytes, bytes], ...]]] = (None, ())
MOST_RANGES: Final = 100_000
"""Of a sparse file: one that is cut into more is stored whole."""
TYPES: Final = {
    EntryKind.FILE: EntryType.FILE,
    EntryKind.DIRECTORY: EntryType.DIRECTORY,
    EntryKind.SYMLINK: EntryType.SYMLINK,
    EntryKind.FIFO: EntryType.FIFO,
    EntryKind.CHARACTER: EntryType.CHARACTER,
    EntryKind.BLOCK: EntryType.BLOCK,
}


_UNSAID: Final = (b".lucid-checksums", b".lucid-restored")
"""A check's list is there for good, and the record of a volume that is complete holds nothing of the volume: leaving
them out is not worth a word."""


def is_ours(name: bytes) -> bool:
    """Whether an entry at the top of a volume is a check's or a restore's and none of the volume's own."""
    return _OURS.fullmatch(name) is not None


@dataclass(slots=True)
class Opened:
    """One entry that the walk stands at; of a file also the descriptor that its contents are read from."""

    entry: TarEntry
    descriptor: int | None = None


@dataclass(frozen=True, slots=True)
class _First:
    """The name that a file with several was read under, and what it was then."""

    path: bytes
    mtime_ns: int
    size: int


@dataclass(slots=True)
class Tree:
    """Reads one tree once."""

    root: Path
    skip: frozenset[bytes] = frozenset()
    uncached: bool = False
    """Contents come from the disk: what the kernel holds of them in memory is dropped. Only what was written out is."""
    sockets: int = 0
    """Left out: they live as long as their process."""
    leftovers: int = 0
    """Entries at the top that a restore which was broken off left there; left out."""
    changed: int = 0
    """Files that were written to while they were read."""
    _names: dict[tuple[int, int], _First] = field(default_factory=dict)
    """Of each file that has several, by device and inode."""

    def entries(self) -> Iterator[Opened]:
        """Each entry; a file's descriptor is closed when the next one is asked for.

        Raises UnreadableError and LucidError as `walk` does, LucidError for a folder that is another file system:
        nobody would miss its files before they are needed.
        """
        device: int | None = None
        for node in walk(str(self.root), skip=self._skipped()):
            device = node.stat.st_dev if device is None else device
            if node.kind is EntryKind.DIRECTORY and node.stat.st_dev != device:
                raise LucidError(
                    "A folder of the volume is another file system (a mount, or a btrfs subvolume), which is not read"
                    " with the volume; unmount it, or make it a plain folder."
                )
            if node.kind is EntryKind.SOCKET:
                self.sockets += 1
                continue
            try:
                opened = self._opened(node)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise disk_error(error) from error
            try:
                yield opened
                if opened.descriptor is not None:
                    self._compare(opened.descriptor, opened.entry)
            finally:
                if opened.descriptor is not None:
                    os.close(opened.descriptor)

    def _skipped(self) -> frozenset[bytes]:
        """What a check or a restore that was broken off left at the top is not the volume's."""
        try:
            names = [os.fsencode(path.name) for path in self.root.iterdir()]
        except PermissionError as error:
            raise UnreadableError(unreadable(1)) from error
        except OSError as error:
            raise disk_error(error) from error
        ours = frozenset(filter(is_ours, names))
        self.leftovers = sum(not name.startswith(_UNSAID) for name in ours)
        return self.skip | ours

    def _opened(self, node: Node) -> Opened:
        inode = (node.stat.st_dev, node.stat.st_ino)
        linked = node.stat.st_nlink > 1 and node.kind in _LINKED
        if linked and (first := self._names.get(inode)) is not None and self._is_name_of(first, node):
            return Opened(_entry(node, EntryType.HARDLINK, link=first.path))
        opened = self._read(node)
        if linked:
            self._names[inode] = _First(node.path, opened.entry.mtime_ns, opened.entry.size)
        return opened

    def _is_name_of(self, first: _First, node: Node) -> bool:
        """Whether an entry is another name of what was read under `first`.

        An inode whose last name was removed is given to a new file; one that was written to holds what was not read.
        """
        try:
            with folder_of(self.root, first.path) as (folder, name):
                there = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            return False
        seen = node.stat
        if (there.st_dev, there.st_ino) != (seen.st_dev, seen.st_ino):
            return False
        size = seen.st_size if node.kind is EntryKind.FILE else 0
        unchanged = (first.mtime_ns, first.size) == (seen.st_mtime_ns, size)
        self.changed += not unchanged
        return unchanged

    def _read(self, node: Node) -> Opened:
        if node.kind is not EntryKind.FILE:
            link = os.readlink(node.full) if node.kind is EntryKind.SYMLINK else b""  # noqa: PTH115 - bytes
            # Of the top what is the data's, and not the mount's.
            attributes = extended(node.full) if node.path else tuple(keeping.xattrs(node.full).items())
            return Opened(_entry(node, TYPES[node.kind], link=link, xattrs=attributes))
        descriptor = node.open()
        try:
            if self.uncached:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            now = os.fstat(descriptor)
            ranges = data_ranges(descriptor, now.st_size)
            if ranges is not None and len(ranges) > MOST_RANGES:
                ranges = None
            entry = TarEntry(
                path=node.path,
                type=EntryType.FILE,
                mode=now.st_mode & 0o7777,
                uid=now.st_uid,
                gid=now.st_gid,
                mtime_ns=now.st_mtime_ns,
                size=now.st_size,
                xattrs=extended(descriptor),
                ranges=tuple(ranges) if ranges is not None else None,
            )
        except BaseException:
            os.close(descriptor)
            raise
        return Opened(entry, descriptor)

    def _compare(self, descriptor: int, entry: TarEntry) -> None:
        now = os.fstat(descriptor)
        if (now.st_mtime_ns, now.st_size) != (entry.mtime_ns, entry.size):
            self.changed += 1


def _entry(
    node: Node, kind: EntryType, *, link: bytes = b"", xattrs: tuple[tuple[bytes, bytes], ...] = ()
) -> TarEntry:
    seen = node.stat
    return TarEntry(
        path=node.path,
        type=kind,
        mode=seen.st_mode & 0o7777,
        uid=seen.st_uid,
        gid=seen.st_gid,
        mtime_ns=seen.st_mtime_ns,
        link=link,
        xattrs=xattrs,
        device=(os.major(seen.st_rdev), os.minor(seen.st_rdev)),
    )


def contents(opened: Opened) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of exactly what the entry says: a file that became shorter meanwhile is filled with zeros."""
    if opened.descriptor is None:
        return
    for offset, length in opened.entry.stored:
        at, end = offset, offset + length
        while at < end:
            wanted = min(READ_BYTES, end - at)
            try:
                data = os.pread(opened.descriptor, wanted, at)
            except OSError as error:
                raise disk_error(error) from error
            yield at, data or bytes(wanted)
            at += len(data) or wanted


def digest_of(
    tree: Tree,
    check: Callable[[], None],
    report: Callable[[int, int], None] = lambda size, files: None,
    *,
    taken: Mapping[bytes, int] = MappingProxyType({}),
    dated: Mapping[bytes, tuple[int, int]] = MappingProxyType({}),
    links: Iterable[TarEntry] = (),
    left: Iterable[tuple[bytes, tuple[tuple[bytes, bytes], ...]]] = (),
) -> TreeDigest:
    """The whole tree read and added up, with the bits of modes that were `taken` from entries, by path, and with the
    second of the times (ns) that they were `dated` with for the first; with hard `links` that are not to be looked for
    in it, and with the attributes that entries were `left` without, by path, both in the order of a walk.
    """
    digest, waiting, lefts = TreeDigest(), deque(links), iter(left)
    path, attributes = next(lefts, _NO_MORE)
    for opened in tree.entries():
        while waiting and waiting[0].path.split(b"/") < opened.entry.path.split(b"/"):
            digest.add(waiting.popleft())
        content = ContentHash()
        for offset, data in contents(opened):
            check()
            content.update(offset, data)
            report(len(data), 0)
        entry = opened.entry
        if entry.path in taken:
            entry = replace(entry, mode=entry.mode | taken[entry.path])
        found, mtime_ns = dated.get(entry.path, (0, entry.mtime_ns))
        if entry.mtime_ns // 10**9 == found // 10**9:
            entry = replace(entry, mtime_ns=mtime_ns)
        if entry.path == path:
            entry = replace(entry, xattrs=tuple(sorted({**dict(attributes), **dict(entry.xattrs)}.items())))
            path, attributes = next(lefts, _NO_MORE)
        digest.add(entry, content.hexdigest(entry.size) if opened.descriptor is not None else "")
    for link in waiting:
        digest.add(link)
    return digest
