"""What the tests of MongoDB backups share: runs into memory, archives taken apart, and waiting with a deadline."""

import io
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect, WriteConcernError

from jobs.memory_sink import MemorySink
from lucid_storage.archive.content import Tally, documents
from lucid_storage.archive.manifest import ObjectKind
from lucid_storage.archive.mongodump import OPLOG, ArchiveReader, Chunk, CollectionEntry, Namespace
from lucid_storage.jobs.contract import BackupRun, Sink
from lucid_storage.models.backup import BackupEngine, BackupType, MongoSelection
from lucid_storage.models.orders import BackupOrder, Destination, Owner

ROLLS_OVER_SOON: dict[str, Any] = {
    "oplog_mib": 1,
    "checkpoint_seconds": 1,
    "parameters": {"minOplogTruncationPoints": "2"},
}
"""Options of a server whose oplog is soon too short."""


@dataclass
class Bed:
    """A run whose objects stay in memory."""

    gate: Callable[[int], None] = lambda _: None
    sinks: list[MemorySink] = field(default_factory=list)
    done: list[int] = field(default_factory=lambda: [0, 0])
    expected: list[int] = field(default_factory=lambda: [0])

    def run(self, *, selection: MongoSelection | None = None, patterns: Sequence[str] = ("*",)) -> BackupRun:
        lock = threading.Lock()

        def report(size: int, count: int) -> None:
            with lock:
                self.done[0] += size
                self.done[1] += count

        def expect(size: int) -> None:
            with lock:
                self.expected[0] += size

        return BackupRun(order(selection, patterns), self._open, report, expect)

    def _open(self, kind: ObjectKind, part: str) -> Sink:
        assert part == ""
        self.sinks.append(MemorySink(kind, lambda size: self.gate(size)))
        return self.sinks[-1]

    @property
    def stored(self) -> bytes:
        """The one object that was finished."""
        (sink,) = [sink for sink in self.sinks if sink.finished]
        assert not sink.aborted
        return bytes(sink.data)


def order(selection: MongoSelection | None = None, patterns: Sequence[str] = ("*",)) -> BackupOrder:
    return BackupOrder(
        run="run1",
        id="11111111-2222-3333-4444-555555555555",
        type=BackupType.FULL,
        engines=(BackupEngine.MONGODB,),
        owner=Owner(cluster="c", namespace="n", name="b", uid="u", spec_hash="h"),
        destination=Destination(),
        chain="manual",
        deadline_seconds=600,
        mongodb=selection,
        database_patterns=tuple(patterns),
    )


@dataclass
class Taken:
    """An archive taken apart."""

    entries: dict[str, CollectionEntry]
    documents: dict[str, list[bytes]]
    tallies: dict[str, Tally]
    oplog: list[bytes]

    def by_id(self, namespace: str) -> dict[Any, bytes]:
        """The newest copy of each document."""
        return {_key(raw): raw for raw in self.documents.get(namespace, [])}


def apart(archive: bytes) -> Taken:
    reader = ArchiveReader(io.BytesIO(archive))
    found: dict[str, list[bytes]] = {}
    tallies: dict[str, Tally] = {}
    for part in reader.parts():
        if isinstance(part, Chunk):
            found.setdefault(str(part.namespace), []).extend(map(bytes, documents(part.data)))
        else:
            tallies[str(part.namespace)] = part.tally
    entries = {str(entry.namespace): entry for entry in reader.prelude.collections}
    return Taken(entries, found, tallies, found.pop(str(OPLOG), []))


def _key(raw: bytes) -> Any:
    return (
        bytes(RawBSONDocument(raw).raw)
        if "_id" not in RawBSONDocument(raw)
        else repr(RawBSONDocument(raw)["_id"])
    )


def live(client: MongoClient[Any], database: str, collection: str) -> list[bytes]:
    """The documents as the server has them."""
    raw = client.get_database(database).get_collection(collection)
    return [bytes(doc) for batch in raw.find_raw_batches() for doc in documents(batch)]


@contextmanager
def counting(
    client: MongoClient[Any], database: str, collections: Sequence[str], pause: float = 0.0005
) -> Iterator[list[int]]:
    """A writer that inserts 1, 2, 3, ... into each collection in turn, with majority; yields the last number."""
    written = [0]
    ended = threading.Event()
    failure: list[BaseException] = []

    def write() -> None:
        try:
            while not ended.is_set():
                number = written[0] + 1
                for name in collections:
                    _put(client[database][name], {"_id": number, "text": "x" * 50})
                written[0] = number
                ended.wait(pause)
        except BaseException as error:  # noqa: BLE001 - raised below
            failure.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield written
    finally:
        ended.set()
        thread.join()
    assert not failure, failure


def _put(collection: Collection[Any], document: dict[str, Any]) -> None:
    """An insert that is sent again, as a new one, where a step-down leaves open what became of it."""
    end = time.monotonic() + 30
    content = {key: value for key, value in document.items() if key != "_id"}
    while True:
        try:
            collection.update_one({"_id": document["_id"]}, {"$setOnInsert": content}, upsert=True)
        except (AutoReconnect, WriteConcernError):
            assert time.monotonic() < end, "no primary takes writes"
        else:
            return


def once(action: Callable[[], Any]) -> Callable[[int], None]:
    """A gate that does something when the first bytes behind the list of collections are written."""
    done = threading.Event()

    def gate(size: int) -> None:
        if size and not done.is_set():
            done.set()
            action()

    return gate


def until(condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(0.01)
    return answer


def inserted(entries: Iterable[dict[str, Any]], namespace: str) -> list[Any]:
    """The `_id`s that entries of an oplog insert, in transactions or not."""
    return [
        op["o"]["_id"]
        for entry in entries
        for op in entry["o"].get("applyOps", [entry])
        if op["op"] == "i" and op["ns"] == namespace
    ]


def oldest(client: MongoClient[Any]) -> Any:
    """The time of the oplog's first entry."""
    return client.local["oplog.rs"].find_one(sort=[("$natural", 1)])["ts"]  # type: ignore[index]


def newest(client: MongoClient[Any]) -> Any:
    """The time of the oplog's last entry."""
    return client.local["oplog.rs"].find_one(sort=[("$natural", -1)])["ts"]  # type: ignore[index]


__all__ = [
    "OPLOG",
    "ROLLS_OVER_SOON",
    "Bed",
    "Namespace",
    "Taken",
    "apart",
    "counting",
    "inserted",
    "live",
    "newest",
    "oldest",
    "once",
    "order",
    "until",
]
