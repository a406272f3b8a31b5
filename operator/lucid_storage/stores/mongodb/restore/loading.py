"""Documents of an archive into staged collections: raw, unordered, in batches by bytes, in a few threads.

A batch is sent as the bytes that the archive holds, without looking into documents. Capped collections are loaded by
one thread in the order of the stream (rule 1.13).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from struct import Struct

import bson
from bson.raw_bson import RawBSONDocument

from lucid_storage.stores.mongodb.restore.catalog import Tracked
from lucid_storage.stores.mongodb.restore.inserted import Inserted
from lucid_storage.stores.mongodb.restore.replacing import DUPLICATE_KEY, put_all, refused
from lucid_storage.stores.mongodb.restore.target import Target

BATCH_BYTES = 2 * 1024 * 1024
LANES = 2
_QUEUED = 1
"""Batches that wait for a thread: enough to keep it busy, few enough to keep memory flat."""
_BATCH_DOCUMENTS = 50_000
_NOTHING = bson.encode({})
_size_at = Struct("<i").unpack_from


class Batch(RawBSONDocument):
    """Several documents back to back, which go into a message as they are.

    An insert's documents lie back to back in its message (OP_MSG, kind 1), so one value of many documents is what the
    driver would write for the many.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(_NOTHING)
        self._data = data

    @property
    def raw(self) -> bytes:
        return self._data


@dataclass(slots=True)
class Loaded:
    """What was loaded into one collection."""

    documents: int = 0
    """Of the stream."""
    size: int = 0
    """In bytes."""
    replaced: int = 0
    """First copies of an `_id` that came twice; a later copy took their place (rule 1.12)."""
    undecided: int = 0
    """Of batches that were sent twice: documents that were there byte for byte, either from the first attempt or as
    first copies.
    """
    replacing: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    """Held while documents take the place of others."""


class Loader:
    """Takes chunks of whole documents. `add` blocks while the server is slow; raises what a thread raised."""

    def __init__(
        self,
        target: Target,
        *,
        lanes: int = LANES,
        report: Callable[[int, int], None] = lambda *_: None,
        inserted: Inserted | None = None,
    ) -> None:
        self._target = target
        self._inserted = inserted or Inserted(target)
        self._report = report
        self._waiting: dict[str, _Waiting] = {}
        self._loaded: dict[str, Loaded] = {}
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._lanes = [_Lane(self, number) for number in range(lanes)]

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        for lane in self._lanes:
            lane.stop()

    def add(self, tracked: Tracked, data: bytes | memoryview, documents: int) -> None:
        """Whole documents that lie back to back."""
        waiting = self._waiting.get(tracked.place.namespace)
        if waiting is None:
            waiting = self._waiting[tracked.place.namespace] = _Waiting(tracked)
        if waiting.size and waiting.size + len(data) > BATCH_BYTES:
            self._send(waiting)
        waiting.parts.append(bytes(data))
        waiting.size += len(data)
        waiting.documents += documents
        if waiting.size >= BATCH_BYTES or waiting.documents >= _BATCH_DOCUMENTS:
            self._send(waiting)

    def end(self, tracked: Tracked) -> None:
        """No more documents of this collection: what waits for company goes on its way."""
        waiting = self._waiting.pop(tracked.place.namespace, None)
        if waiting is not None:
            self._send(waiting)

    def flush(self) -> None:
        """Returns when all that was added is on a majority of the members."""
        for waiting in self._waiting.values():
            self._send(waiting)
        for lane in self._lanes:
            lane.join()
        self._raise()

    def loaded(self, tracked: Tracked) -> Loaded:
        """What was loaded so far; complete after flush."""
        with self._lock:
            return self._loaded.setdefault(tracked.place.namespace, Loaded())

    def _send(self, waiting: _Waiting) -> None:
        self._raise()
        if not waiting.size:
            return
        batch = _Job(waiting.tracked, b"".join(waiting.parts), waiting.documents)
        waiting.clear()
        self._target.wait_for_secondaries()
        if waiting.tracked.capped:
            lane = self._lanes[waiting.tracked.number % len(self._lanes)]
        else:
            lane = min(self._lanes, key=lambda lane: lane.waiting)
        while not lane.offer(batch):
            self._raise()

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def insert(self, job: _Job) -> None:
        """One batch, in a lane's thread."""
        place = job.tracked.place
        resent: list[bool] = []
        if self._inserted.follows(place):
            self._inserted.note(place, documents_in(job.data))
        answer = self._target.write(
            place.database,
            {
                "insert": place.collection,
                "documents": [Batch(job.data)],
                "ordered": job.tracked.capped,
                "bypassDocumentValidation": True,
            },
            f"load {job.tracked.name[0]}.{job.tracked.name[1]}",
            content=True,
            sent_again=lambda: resent.append(True),
        )
        different, equal = self._replace(job, answer, resent) if answer.get("writeErrors") else (0, 0)
        loaded = self.loaded(job.tracked)
        with self._lock:
            loaded.documents += job.documents
            loaded.size += len(job.data)
            loaded.replaced += different + (0 if resent else equal)
            loaded.undecided += equal if resent else 0
        self._report(len(job.data), job.documents)

    def _replace(self, job: _Job, answer: Mapping[str, object], resent: list[bool]) -> tuple[int, int]:
        """A document whose `_id` is there already takes its place.

        Returns how many were there as something else, and how many byte for byte; `resent` grows when a command had to
        be sent twice.
        """
        errors = answer["writeErrors"]
        assert isinstance(errors, list)
        for error in errors:
            if error.get("code") != DUPLICATE_KEY:
                raise refused(job.tracked, error)
        wanted = {int(error["index"]) for error in errors}
        if job.tracked.capped:
            # An ordered insert stops at its first error: go on behind it, one by one.
            wanted = set(range(min(wanted), job.documents))
        documents = [one for place, one in enumerate(documents_in(job.data)) if place in wanted]
        with self.loaded(job.tracked).replacing:
            return put_all(self._target, job.tracked, documents, lambda: resent.append(True))

    def fail(self, error: BaseException) -> None:
        """The first failure is the one that is told."""
        with self._lock:
            self._failure = self._failure or error

    @property
    def failed(self) -> bool:
        return self._failure is not None


@dataclass(slots=True)
class _Waiting:
    tracked: Tracked
    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    documents: int = 0

    def clear(self) -> None:
        self.parts, self.size, self.documents = [], 0, 0


@dataclass(frozen=True, slots=True)
class _Job:
    tracked: Tracked
    data: bytes
    documents: int


class _Lane:
    """A thread with a short queue."""

    def __init__(self, loader: Loader, number: int) -> None:
        self._loader = loader
        self._queue: queue.Queue[_Job | None] = queue.Queue(maxsize=_QUEUED)
        self._busy = 0
        self._thread = threading.Thread(target=self._run, name=f"load-{number}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return self._queue.unfinished_tasks

    def offer(self, job: _Job) -> bool:
        """False when there was no room for a while."""
        try:
            self._queue.put(job, timeout=0.5)
        except queue.Full:
            return False
        return True

    def join(self) -> None:
        self._queue.join()

    def stop(self) -> None:
        """Ends the thread; what is queued is dropped when the loading failed."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                if not self._loader.failed:
                    self._loader.insert(job)
            except BaseException as error:  # noqa: BLE001 - it belongs to the thread that adds
                self._loader.fail(error)
            finally:
                self._queue.task_done()
        self._queue.task_done()


def documents_in(data: bytes | memoryview) -> Iterator[bytes]:
    """The documents that lie back to back."""
    at = 0
    while at < len(data):
        size = _size_at(data, at)[0]
        yield bytes(data[at : at + size])
        at += size
