"""All documents of several points in time into one stream: two threads read and pack, one at a time writes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import monotonic

from lucid_storage.archive.elastic_export import ExportWriter, IndexTally, pack
from lucid_storage.jobs.contract import BackupRun
from lucid_storage.stores.elasticsearch.backup.hits import Page
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp
from lucid_storage.stores.elasticsearch.backup.points import SLICED_FROM, Point, pages, touch

READERS = 2
_SWEEP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Part:
    number: int
    point: Point
    part: int
    parts: int


def read_all(
    run: BackupRun, http: ElasticHttp, points: Sequence[Point], writer: ExportWriter
) -> list[IndexTally]:
    """What each index held, in the order of `points`. Raises the first LucidError of any thread."""
    reading = _Reading(run, http, points, writer)
    with ThreadPoolExecutor(READERS, thread_name_prefix="elasticsearch") as threads:
        running = [threads.submit(reading.work) for _ in range(READERS)]
        wait(running, return_when=FIRST_EXCEPTION)
        reading.stop.set()  # without an exception all parts are done, and nobody looks any more
    for one in running:
        one.result()
    return reading.tallies


class _Reading:
    def __init__(
        self, run: BackupRun, http: ElasticHttp, points: Sequence[Point], writer: ExportWriter
    ) -> None:
        self.stop = threading.Event()
        self.tallies = [IndexTally() for _ in points]
        self._run = run
        self._http = http
        self._writer = writer
        self._lock = threading.Lock()
        self._sweeping = threading.Lock()
        self._swept = monotonic()
        self._waiting: SimpleQueue[_Part] = SimpleQueue()
        self._left = dict.fromkeys(range(len(points)), 1)
        self._points = dict(enumerate(points))
        for number, point in enumerate(points):
            self._left[number] = parts = READERS if point.documents >= SLICED_FROM else 1
            for part in range(parts):
                self._waiting.put(_Part(number, point, part, parts))

    def work(self) -> None:
        """Until no part is left. For each of the threads."""
        while not self.stop.is_set():
            try:
                part = self._waiting.get_nowait()
            except Empty:
                return
            for page in pages(self._http, part.point, part.part, part.parts):
                self._write(part.number, page)
                self._keep_alive()
                if self.stop.is_set():
                    return
                self._run.check()
            self._end(part.number)

    def _write(self, number: int, page: Page) -> None:
        payload, tally = pack(number, page.hits)
        with self._lock:
            self._writer.documents(number, payload, tally)
        self._run.report(tally.bytes, tally.documents)

    def _end(self, number: int) -> None:
        with self._lock:
            self._left[number] -= 1
            if not self._left[number]:
                self.tallies[number] = self._writer.end_index(number)
                del self._points[number]

    def _keep_alive(self) -> None:
        """Points that wait for their turn would expire."""
        if monotonic() - self._swept < _SWEEP_SECONDS or not self._sweeping.acquire(blocking=False):
            return
        try:
            self._swept = monotonic()
            with self._lock:
                points = list(self._points.values())
            for point in points:
                touch(self._http, point)
        finally:
            self._sweeping.release()
