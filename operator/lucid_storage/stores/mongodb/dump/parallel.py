"""Several collections read at the same time, and handed to one writer in bounded memory."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from pymongo.client_session import ClientSession

from lucid_storage.stores.mongodb.dump.listing import FoundCollection
from lucid_storage.stores.mongodb.dump.member import PinnedMember
from lucid_storage.stores.mongodb.dump.optimes import OpTime
from lucid_storage.stores.mongodb.dump.reading import CollectionGoneError, batches

READERS = 2
WAITING_REPLIES = 1
"""Replies that wait for the writer, besides the one that each reader holds."""
POLL_SECONDS = 0.5

Seen: TypeAlias = Callable[[FoundCollection, Sequence[memoryview], bytes], None]
"""The documents of a reply, and the same back to back."""
Written: TypeAlias = Callable[[FoundCollection, bytes | None], None]
_Item: TypeAlias = tuple[FoundCollection, bytes | None] | BaseException | None


class ParallelReading:
    """One pass over each of several lists of collections, list after list."""

    def __init__(self, member: PinnedMember, seen: Seen) -> None:
        """`seen` is called in the thread that read the documents: what is counted there is counted in parallel.

        One collection is read by one thread, from its beginning to its end.
        """
        self._member = member
        self._left: deque[FoundCollection] = deque()
        self._seen = seen
        self._queue: queue.Queue[_Item] = queue.Queue(WAITING_REPLIES)
        self._stop = threading.Event()
        self.gone: list[FoundCollection] = []
        """Collections that went while they were read. What was read of them was handed on."""
        self.restarted: dict[str, OpTime] = {}
        """Capped collections that were read more than once, with the moment before their last pass."""

    def run(
        self, collections: Iterable[FoundCollection], written: Written, check: Callable[[], None]
    ) -> None:
        """Hands everything of them on in the caller's thread; None ends a collection. Raises what a reader raises.

        `check` is called often and raises to give up. On return no thread is left; after an error call it no more.
        """
        self._left.extend(collections)
        self._stop.clear()
        readers = [threading.Thread(target=self._read, name=f"reader-{n}") for n in range(READERS)]
        for reader in readers:
            reader.start()
        try:
            self._hand_on(written, check)
        finally:
            self._stop.set()
            for reader in readers:
                self._drain(reader)

    def _hand_on(self, written: Written, check: Callable[[], None]) -> None:
        running = READERS
        while running:
            check()
            try:
                item = self._queue.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if item is None:
                running -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                written(*item)
                del item

    def _drain(self, reader: threading.Thread) -> None:
        while reader.is_alive():
            while not self._queue.empty():
                self._queue.get_nowait()
            reader.join(0.05)

    def _read(self) -> None:
        try:
            with self._member.session() as session:
                while not self._stop.is_set():
                    try:
                        one = self._left.popleft()
                    except IndexError:
                        break
                    self._read_one(session, one)
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller of run
            self._put(error)

    def _read_one(self, session: ClientSession, one: FoundCollection) -> None:
        try:
            for documents in batches(self._member, session, one, self._restarted):
                joined = b"".join(documents)
                self._seen(one, documents, joined)
                documents.clear()  # the reply would be kept while this waits and the next one is on its way
                if not self._put((one, joined)):
                    return
                del joined
        except CollectionGoneError:
            self.gone.append(one)
        self._put((one, None))

    def _restarted(self, one: FoundCollection, at: OpTime) -> None:
        self.restarted[one.namespace] = at

    def _put(self, item: _Item) -> bool:
        """Waits for room; False when nobody wants it any more."""
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False
