"""What a volume holds as one hash: the same for the tree that was read, for its archive, and for the restored tree.

Left out are owners and the attributes that only privileged processes may set, since a restore may have to leave them;
that is told beside the hash. A hole and zeros are the same.
"""

from __future__ import annotations

import hashlib
from typing import Final

from lucid_storage.archive.volume_tar import EntryType, TarEntry

BLOCK_BYTES: Final = 64 * 1024
_ZEROS: Final = bytes(BLOCK_BYTES)
USER_ATTRIBUTES: Final = b"user."
PRIVILEGED: Final = frozenset({EntryType.CHARACTER, EntryType.BLOCK})


class ContentHash:
    """SHA-256 of a file's blocks that are not all zero, each with its place: holes cost nothing."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._block = -1
        self._held = bytearray()

    def update(self, offset: int, data: bytes) -> None:
        """Contents at an offset, in rising order."""
        at = 0
        while at < len(data):
            block, inside = divmod(offset + at, BLOCK_BYTES)
            size = min(BLOCK_BYTES - inside, len(data) - at)
            piece = data[at : at + size]
            if size == BLOCK_BYTES:
                self._flush()
                self._add(block, piece)
            else:
                if block != self._block:
                    self._flush()
                    self._block = block
                self._held += bytes(inside - len(self._held)) + piece
            at += size

    def hexdigest(self, size: int) -> str:
        """Of a file of this size. Nothing can be added afterwards."""
        self._flush()
        self._sha256.update(b"size %d" % size)
        return self._sha256.hexdigest()

    def _flush(self) -> None:
        if self._held:
            self._add(self._block, bytes(self._held))
        self._block, self._held = -1, bytearray()

    def _add(self, block: int, piece: bytes) -> None:
        # What a file does not hold at its end or in a hole is no part of it: zeros at a block's end are cut off.
        if piece == _ZEROS[: len(piece)]:
            return
        cut = piece if piece[-1] else piece.rstrip(b"\x00")
        self._sha256.update(b"block %d %d\n" % (block, len(cut)))
        self._sha256.update(cut)


class TreeDigest:
    """Adds up entries in the order of a walk."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.files = 0
        self.entries = 0
        self.bytes = 0
        """Of contents, holes included, a file with several names once."""

    def add(self, entry: TarEntry, content: str = "") -> None:
        """`content` is a file's ContentHash."""
        if not entry.path or entry.type in PRIVILEGED:
            return  # the root is the mount's; device files are made by privileged processes only
        self.entries += 1
        if entry.type is EntryType.FILE:
            self.files += 1
            self.bytes += entry.size
        self._sha256.update(fingerprint(entry, content))

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


def fingerprint(entry: TarEntry, content: str) -> bytes:
    """Everything about an entry that counts. Each part says its length, so that no two entries are alike."""
    linked = entry.type is EntryType.HARDLINK
    parts = [entry.type.encode(), entry.path, entry.link, content.encode()]
    if not linked:  # all else is told with the first name
        # Whole seconds: not every file system keeps more.
        # A symbolic link's mode means nothing on Linux.
        mode = 0 if entry.type is EntryType.SYMLINK else entry.mode
        parts += [b"%o %d %d" % (mode, entry.mtime_ns // 1_000_000_000, entry.size)]
        parts += [
            part for name, value in entry.xattrs if name.startswith(USER_ATTRIBUTES) for part in (name, value)
        ]
    return b"".join(b"%d:%s," % (len(part), part) for part in parts)
