"""One pass that makes a tree like another one: what is there and alike is left, the rest is copied, and what the source
has not is removed.

The main thread makes every name; other threads fill files through open descriptors. So a folder is complete, and gets
its time, when the walk leaves it. Memory is bounded but for files with several names, one number each.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import BoundedSemaphore, Lock

from lucid_storage.stores.filesystem import content, keeping
from lucid_storage.stores.filesystem.tree import OWN_OF_EXT4, EntryKind, Node, UnreadableError, walk

THREADS = 2
OPEN_FILES = 16
"""Files handed to threads and not done: bounds descriptors and memory."""
NOT_COPIED = frozenset({EntryKind.SOCKET, EntryKind.CHARACTER, EntryKind.BLOCK})
"""A socket means nothing without its process; device nodes need rights that no worker has."""


@dataclass(slots=True)
class Copied:
    """What one pass did."""

    files: int = 0
    bytes: int = 0
    unreadable: int = 0


@dataclass(slots=True)
class _Folder:
    path: bytes
    seen: os.stat_result
    attributes: dict[bytes, bytes]


class Pool:
    """Threads for files, with a bound on what is under way. The first error ends the work."""

    def __init__(self, threads: int = THREADS, bound: int = OPEN_FILES) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="copy")
        self._free = BoundedSemaphore(bound)
        self._lock = Lock()
        self._error: BaseException | None = None

    def run(self, work: Callable[[], None]) -> None:
        """Have it done soon. Raises what earlier work raised, and never calls this one then."""
        self._free.acquire()
        with self._lock:
            error = self._error
        if error is not None:
            self._free.release()
            raise error
        self._threads.submit(work).add_done_callback(self._done)

    def drain(self) -> None:
        """Returns when everything is done. Raises the first error."""
        self._threads.shutdown(wait=True)
        if self._error is not None:
            raise self._error

    def _done(self, future: Future[None]) -> None:
        error = future.exception()
        with self._lock:
            self._error = self._error or error
        self._free.release()


class Mirror:
    """One pass from `source` to `target`, both absolute. `again` are files to copy whatever they look like."""

    def __init__(
        self, source: bytes, target: bytes, told: content.Told, again: frozenset[bytes] = frozenset()
    ) -> None:
        self._source, self._target, self._told, self._again = source, target, told, again
        self._linked: dict[int, bytes] = {}
        """Inode of a file with several names -> the first of its names."""
        self._folders: list[_Folder] = []
        self._copied = Copied()
        self._lock = Lock()

    def run(self) -> Copied:
        """Raises OSError, UnreadableError for a folder, LucidError; unreadable files are counted."""
        pool = Pool()
        try:
            for node in walk(self._source):
                self._told(0)
                self._leave_folders(node.path)
                self._entry(node, pool)
            self._leave_folders(None)
        finally:
            pool.drain()
        return self._copied

    def _entry(self, node: Node, pool: Pool) -> None:
        match node.kind:
            case EntryKind.DIRECTORY:
                self._folder(node)
            case EntryKind.FILE:
                self._file(node, pool)
            case EntryKind.SYMLINK:
                self._symlink(node)
            case EntryKind.FIFO:
                if self._cleared(node, lambda there: stat.S_ISFIFO(there.st_mode)):
                    os.mkfifo(self._at(node.path), 0o600)
                keeping.put(self._at(node.path), node.kind, node.stat, keeping.xattrs(node.full))
            case _:
                self._cleared(node, lambda there: False)

    # Folders

    def _folder(self, node: Node) -> None:
        path = self._at(node.path)
        if node.path and self._cleared(node, lambda there: stat.S_ISDIR(there.st_mode)):
            os.mkdir(path, 0o700)
        elif node.path and os.lstat(path).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(path, 0o700)
        wanted = set(os.listdir(node.full))
        for name in os.listdir(path):
            if name not in wanted and (node.path or name != OWN_OF_EXT4):
                _remove(os.path.join(path, name))
        self._folders.append(_Folder(node.path, node.stat, keeping.xattrs(node.full)))

    def _leave_folders(self, path: bytes | None) -> None:
        """Those that the entry at `path` is not in are complete. None leaves all."""
        while self._folders and (path is None or not _is_in(path, self._folders[-1].path)):
            folder = self._folders.pop()
            keeping.put(self._at(folder.path), EntryKind.DIRECTORY, folder.seen, folder.attributes)

    # What is in them

    def _file(self, node: Node, pool: Pool) -> None:
        if self._is_linked(node):
            return
        try:
            source = node.open()
        except FileNotFoundError:
            return
        except UnreadableError:
            self._copied.unreadable += 1
            self._cleared(node, lambda there: False)
            return
        try:
            seen = os.fstat(source)
            path = self._at(node.path)
            if not self._cleared(node, lambda there: self._alike(node, seen, there)):
                keeping.put(path, node.kind, seen, keeping.xattrs(source))
                os.close(source)
                self._told(seen.st_size)
                return
            target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except BaseException:
            os.close(source)
            raise
        pool.run(lambda: self._fill(source, target, seen))

    def _fill(self, source: int, target: int, seen: os.stat_result) -> None:
        try:
            content.copy(source, target, seen.st_size, self._told)
            keeping.put(target, EntryKind.FILE, seen, keeping.xattrs(source))
        finally:
            os.close(source)
            os.close(target)
        with self._lock:
            self._copied.files += 1
            self._copied.bytes += seen.st_size

    def _alike(self, node: Node, seen: os.stat_result, there: os.stat_result) -> bool:
        """Whether an earlier pass copied this file: its time is set when its contents are complete."""
        return (
            stat.S_ISREG(there.st_mode)
            and node.path not in self._again
            and there.st_size == seen.st_size
            and there.st_nlink == seen.st_nlink
            and keeping.same_time(seen, there)
        )

    def _is_linked(self, node: Node) -> bool:
        """Whether the file is another name of one that was met before; the copy then gets that name too."""
        if node.stat.st_nlink < 2:
            return False
        first = self._linked.setdefault(node.stat.st_ino, node.path)
        if first == node.path:
            return False
        whose = os.lstat(self._at(first)).st_ino
        if self._cleared(node, lambda there: there.st_ino == whose):
            os.link(self._at(first), self._at(node.path))
        return True

    def _symlink(self, node: Node) -> None:
        try:
            wanted = os.readlink(node.full)
        except OSError:
            return  # gone, or another thing by now; the comparison finds it
        path = self._at(node.path)
        if self._cleared(node, lambda there: stat.S_ISLNK(there.st_mode) and os.readlink(path) == wanted):
            os.symlink(wanted, path)
        keeping.put(path, node.kind, node.stat, {})

    def _cleared(self, node: Node, fits: Callable[[os.stat_result], bool]) -> bool:
        """Whether the name is free in the target; what is there and does not fit is removed first."""
        path = self._at(node.path)
        try:
            there = os.lstat(path)
        except FileNotFoundError:
            return True
        if fits(there):
            return False
        _remove(path)
        return True

    def _at(self, path: bytes) -> bytes:
        return os.path.join(self._target, path) if path else self._target


def _is_in(path: bytes, folder: bytes) -> bool:
    return not folder or path.startswith(folder + b"/")


def _remove(path: bytes) -> None:
    """Whatever it is. Folders of a copy are ours, whatever mode they got."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
        return
    for folder, _, _ in os.walk(path):
        os.chmod(folder, 0o700)
    shutil.rmtree(path)
