"""One pass that compares two trees: names, contents byte by byte, and everything that a copy keeps.

The copy is read from its disk: what the kernel still holds of it in memory is dropped first. Beside the comparison
comes a digest of the tree, which does not depend on order or on which zeros are holes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from threading import Lock, local

from lucid_storage.jobs.volume_copy_mirror import NOT_COPIED, Pool
from lucid_storage.stores.filesystem import content, keeping
from lucid_storage.stores.filesystem.content import digest_number
from lucid_storage.stores.filesystem.tree import (
    OWN_OF_EXT4,
    EntryKind,
    Node,
    UnreadableError,
    kind_of,
    walk,
)

RANGE_BYTES = 64 * content.BLOCK_BYTES
"""Of a large file, compared by one thread at a time."""
AGAIN_LIMIT = 10_000
"""Names of different files that are remembered to be copied again."""


@dataclass(slots=True)
class Compared:
    """What a pass found. `stamp` and `digest` are sums of digests."""

    entries: int = 0
    files: int = 0
    size: int = 0
    skipped: int = 0
    """Sockets and device nodes."""
    differences: int = 0
    unreadable: int = 0
    owners_not_kept: int = 0
    xattrs_not_kept: int = 0
    top_mode_kept: bool = True
    """Of the folder that is the volume itself."""
    stamp: int = 0
    digest: int = 0
    again: set[bytes] = field(default_factory=set)
    """Names of entries that differ."""


class _Pair:
    """A file and its copy, open until the last range was compared."""

    def __init__(self, source: int, target: int, ranges: int) -> None:
        self.source, self.target = source, target
        self._left = ranges

    def done(self) -> None:
        """One range was compared. Called under the comparison's lock."""
        self._left -= 1
        if self._left == 0:
            os.close(self.source)
            os.close(self.target)


class Comparison:
    """One pass over `source` and `target`, both absolute."""

    def __init__(self, source: bytes, target: bytes, told: content.Told) -> None:
        self._source, self._target, self._told = source, target, told
        self._found = Compared()
        self._lock = Lock()
        self._linked: dict[int, int] = {}
        """Inode of a file with several names -> inode of its copy."""
        self._threads = local()

    def run(self) -> Compared:
        """Raises OSError, UnreadableError for a folder of the source."""
        pool = Pool()
        try:
            for node in walk(self._source):
                self._told(0)
                self._found.stamp += keeping.stamp(node)
                self._entry(node, pool)
        finally:
            pool.drain()
        return self._found

    def _entry(self, node: Node, pool: Pool) -> None:
        path = os.path.join(self._target, node.path) if node.path else self._target
        if node.kind in NOT_COPIED:
            self._found.skipped += 1
            return
        self._found.entries += 1
        try:
            there = os.lstat(path) if node.path else os.stat(path)
        except FileNotFoundError:
            self._differs(node)
            return
        if kind_of(there.st_mode) is not node.kind or not self._same_besides(node, path, there):
            self._differs(node)
            return
        if not node.path:
            self._found.top_mode_kept = keeping.same_top_mode(node.stat, there)
        with self._lock:
            self._found.owners_not_kept += not _same_owner(node, there)
            self._found.digest += _about(node, path)
        if node.kind is EntryKind.FILE and not self._is_linked(node, there):
            self._file(node, path, pool)

    def _same_besides(self, node: Node, path: bytes, there: os.stat_result) -> bool:
        """Everything but contents of files. The root folder belongs to whoever made the volume: only its entries and
        attributes that can be set without owning it count; what else of it was not kept is told.
        """
        if node.kind is EntryKind.DIRECTORY and not self._same_names(node, path):
            return False
        if not self._same_xattrs(node, path, there):
            return False
        if not node.path:
            return True
        if node.kind is EntryKind.SYMLINK:
            return _link(node.full) == _link(path) and keeping.same_time(node.stat, there)
        if node.kind is EntryKind.FILE and node.stat.st_size != there.st_size:
            return False
        return keeping.same_time(node.stat, there) and keeping.same_mode(node.stat, there)

    def _same_names(self, node: Node, path: bytes) -> bool:
        ours, theirs = set(os.listdir(node.full)), set(os.listdir(path))
        if not node.path:
            ours.discard(OWN_OF_EXT4)
            theirs.discard(OWN_OF_EXT4)
        missing = ours - theirs
        if theirs - ours:
            return False
        return all(_not_copied(node.full, name) for name in missing)

    def _same_xattrs(self, node: Node, path: bytes, there: os.stat_result) -> bool:
        if node.kind is EntryKind.SYMLINK:
            return True
        ours, theirs = keeping.xattrs(node.full), keeping.xattrs(path)
        if ours == theirs:
            return True
        users = {k: v for k, v in ours.items() if k.startswith(b"user.")} != {
            k: v for k, v in theirs.items() if k.startswith(b"user.")
        }
        if users and (node.path or there.st_uid == os.geteuid()):
            return False
        self._found.xattrs_not_kept += 1  # capabilities and access lists that need rights
        return True

    def _is_linked(self, node: Node, there: os.stat_result) -> bool:
        """Whether the contents were compared under another name."""
        if node.stat.st_nlink < 2:
            return False
        known = node.stat.st_ino in self._linked
        if self._linked.setdefault(node.stat.st_ino, there.st_ino) != there.st_ino:
            self._differs(node)
        return known

    def _file(self, node: Node, path: bytes, pool: Pool) -> None:
        size = node.stat.st_size
        self._found.files += 1
        self._found.size += size
        if size == 0:
            return
        try:
            source = node.open()
        except FileNotFoundError:
            self._differs(node)
            return
        except UnreadableError:
            self._found.unreadable += 1
            return
        target = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        os.posix_fadvise(target, 0, 0, os.POSIX_FADV_DONTNEED)
        ranges = list(_ranges(size))
        pair = _Pair(source, target, len(ranges))
        for start, end in ranges:
            pool.run(partial(self._range, node.path, pair, start, end))

    def _range(self, path: bytes, pair: _Pair, start: int, end: int) -> None:
        comparer = getattr(self._threads, "comparer", None)
        if comparer is None:
            comparer = self._threads.comparer = content.Comparer()
        differs, digest = False, 0
        try:
            digest = comparer.digest(pair.source, pair.target, start, end, self._told)
        except content.Difference:
            differs = True
        finally:
            with self._lock:
                pair.done()
                self._found.digest += digest_number(path, digest.to_bytes(32, "big"))
                if differs:
                    self._count_difference(path)

    def _differs(self, node: Node) -> None:
        with self._lock:
            self._count_difference(node.path)

    def _count_difference(self, path: bytes) -> None:
        self._found.differences += 1
        if len(self._found.again) < AGAIN_LIMIT:
            self._found.again.add(path)


def _same_owner(node: Node, there: os.stat_result) -> bool:
    """The group of the root folder is the fsGroup of whoever mounts the volume, and changes with that."""
    return node.stat.st_uid == there.st_uid if not node.path else keeping.same_owner(node.stat, there)


def _about(node: Node, path: bytes) -> int:
    told = (node.kind, node.stat.st_mode, node.stat.st_mtime_ns)
    return digest_number(node.path, repr(told).encode(), _link(node.full) or b"")


def _link(path: bytes) -> bytes | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def _not_copied(folder: bytes, name: bytes) -> bool:
    """Also true of what is gone by now."""
    try:
        return kind_of(os.lstat(os.path.join(folder, name)).st_mode) in NOT_COPIED
    except FileNotFoundError:
        return True


def _ranges(size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, size, RANGE_BYTES):
        yield start, min(start + RANGE_BYTES, size)
