"""An object of a backup that stays in memory."""

import hashlib
from collections.abc import Callable

from lucid_storage.archive.manifest import ObjectKind, StoredObject


class MemorySink:
    """It counts only when it was finished. `gate` is called before each write, with what was written so far, and may
    block or raise.
    """

    def __init__(self, kind: ObjectKind, gate: Callable[[int], object] = lambda _: None) -> None:
        self.kind = kind
        self.data = bytearray()
        self.finished = self.aborted = False
        self._gate = gate

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        self._gate(len(self.data))
        self.data += data

    def finish(self) -> StoredObject:
        self.finished = True
        size, digest = len(self.data), hashlib.sha256(self.data).hexdigest()
        return StoredObject(kind=self.kind, path="x", stored_bytes=size, sha256=digest, plain_bytes=size)

    def abort(self) -> None:
        self.aborted = not self.finished
