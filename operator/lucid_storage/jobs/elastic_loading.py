"""An export, or a snapshot, into indices beside the live ones, whole and compared: what a restore and a check share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from time import sleep

from lucid_storage.archive.elastic_export import (
    DocumentsRead,
    ExportReader,
    IndexEnd,
    IndexRead,
    IndexTally,
    TemplateRead,
    pack,
)
from lucid_storage.archive.manifest import ElasticRecord
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.contract import CancelledError, Source
from lucid_storage.jobs.elastic_reach import check_in_snapshot
from lucid_storage.stores.elasticsearch.backup.bulk import Loader
from lucid_storage.stores.elasticsearch.backup.definitions import Definition, Template
from lucid_storage.stores.elasticsearch.backup.hits import Hit
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp
from lucid_storage.stores.elasticsearch.backup.points import close_points, open_point, pages
from lucid_storage.stores.elasticsearch.backup.rawjson import NotJsonError
from lucid_storage.stores.elasticsearch.backup.snapshots import find_snapshot, restore_index
from lucid_storage.stores.elasticsearch.backup.staging import (
    check_own,
    count,
    loaded,
    made_uuid,
    mark,
    remove,
    stage,
    tighten,
)

LOADERS = 2
_PUT_SECONDS = 0.5


@dataclass(slots=True)
class LoadRun:
    """What a load needs to know of its run."""

    run: str
    record: ElasticRecord
    open_source: Callable[[], Source]
    """The export (or the definitions of a snapshot) from its beginning."""
    until: int
    """Seconds since 1970 when this run has ended for certain."""
    report: Callable[[int, int], None]
    """Adds bytes and documents to the progress."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    origin: Mapping[str, str] = field(default_factory=dict)
    """Which backup made the snapshot, if it is one."""
    compare_hashes: bool = False
    """Read every loaded document back and compare the contents, besides counting them."""

    def check(self) -> None:
        """Raises CancelledError when the run is to end."""
        if self.cancelled.is_set():
            raise CancelledError("The run was stopped.")

    def pause(self, seconds: float) -> None:
        """Waits, and raises CancelledError when the run is to end."""
        self.cancelled.wait(seconds)
        self.check()


@dataclass(slots=True)
class LoadedIndex:
    """One index that was loaded under `name` and is to become `target`."""

    definition: Definition
    name: str
    target: str
    uuid: str = ""
    """Of what this run made under the name."""
    tally: IndexTally = field(default_factory=IndexTally)


@dataclass(slots=True)
class LoadResult:
    """All of them, and the templates that belong to them."""

    indices: list[LoadedIndex] = field(default_factory=list)
    templates: list[Template] = field(default_factory=list)


def load(run: LoadRun, http: ElasticHttp, targets: Mapping[str, tuple[str, str]]) -> LoadResult:
    """Loads the indices that `targets` names, by their names in the backup, as {name: (staged name, target)}.

    Returns when all of the archive was read and checked, and what was loaded was counted. Raises LucidError; then what
    was loaded is removed.
    """
    result = LoadResult()
    try:
        if run.record.method == "Snapshot":
            _from_snapshot(run, http, targets, result)
        else:
            _from_export(run, http, targets, result)
        _check_all(targets, result)
        for one in result.indices:
            run.check()
            check_own(http, one.name, one.uuid)
            if run.record.method != "Snapshot":
                tighten(http, one.name, one.definition)
            loaded(http, one.name, one.definition)
            _compare(run, http, one)
    except BaseException:
        discard(http, [name for name, _ in targets.values()])
        raise
    return result


def _check_all(targets: Mapping[str, tuple[str, str]], result: LoadResult) -> None:
    there = {one.definition.target for one in result.indices}
    for name in targets:
        if name not in there:
            raise LucidError(
                f"The archive is damaged: the index {name} is not in it. Use another backup.",
                reason=Reason.ARCHIVE_DAMAGED,
            )


def discard(http: ElasticHttp, names: Sequence[str]) -> None:
    """Removes staged indices after a failure. What cannot be removed now is removed by the next run."""
    http.patience, http.pause = 5.0, sleep  # also when the run was cancelled
    for name in names:
        try:
            remove(http, name)
        except LucidError:
            return


def _compare(run: LoadRun, http: ElasticHttp, one: LoadedIndex) -> None:
    found = count(http, one.name)
    check_own(http, one.name, one.uuid)
    if run.record.method == "Snapshot":
        one.tally.documents = found  # the server checked its own files; writes went on while it was made
        return
    if found != one.tally.documents:
        raise LucidError(
            f"{one.target} has {found} documents after loading and {one.tally.documents} in the backup; the target is"
            " untouched.",
            reason=Reason.COUNT_MISMATCH,
        )
    if run.compare_hashes and content_of(run, http, one.name).hash != one.tally.hash:
        raise LucidError(
            f"{one.target} holds other documents after loading than the backup; the target is untouched.",
            reason=Reason.COUNT_MISMATCH,
        )


def content_of(run: LoadRun, http: ElasticHttp, name: str) -> IndexTally:
    """What an index holds now, as an export would write it."""
    total = IndexTally()
    point = open_point(http, name)
    try:
        for page in pages(http, point, 0, 1):
            run.check()
            total.add(pack(0, page.hits)[1])
    finally:
        close_points(http, [point])
    return total


def _definition(event: IndexRead) -> Definition:
    try:
        return Definition.parse(event.definition)
    except NotJsonError as error:
        raise LucidError(
            "The archive is damaged: an index is described wrongly. Use another backup.",
            reason=Reason.ARCHIVE_DAMAGED,
        ) from error


def _from_snapshot(
    run: LoadRun, http: ElasticHttp, targets: Mapping[str, tuple[str, str]], result: LoadResult
) -> None:
    repository, snapshot = run.record.repository, run.record.snapshot
    assert repository is not None
    assert snapshot is not None
    find_snapshot(http, repository, snapshot, run.origin)
    found = _read(run, {}, result)
    for one in found.values():
        if one.target not in targets:
            continue
        check_in_snapshot(one)
        name, target = targets[one.target]
        restore_index(http, repository, snapshot, one.name, name, run.check)
        mark(http, name, one, run.run, target, run.until)
        result.indices.append(LoadedIndex(one, name, target, made_uuid(http, name)))


def _from_export(
    run: LoadRun, http: ElasticHttp, targets: Mapping[str, tuple[str, str]], result: LoadResult
) -> None:
    loading = _Loading(http)
    try:
        _read(run, targets, result, http, loading)
    except BaseException:
        loading.end(failed=True)
        raise
    loading.end()


def _read(
    run: LoadRun,
    targets: Mapping[str, tuple[str, str]],
    result: LoadResult,
    http: ElasticHttp | None = None,
    loading: _Loading | None = None,
) -> dict[int, Definition]:
    """The whole stream, up to its proof. With `loading`, the documents of `targets` are handed on."""
    found: dict[int, Definition] = {}
    chosen: dict[int, LoadedIndex] = {}
    source = run.open_source()
    try:
        for event in ExportReader(source).events():
            run.check()
            match event:
                case TemplateRead(text):
                    result.templates.append(Template.parse(text))
                case IndexRead(number, _):
                    found[number] = one = _definition(event)
                    if http is not None and one.target in targets:
                        chosen[number] = LoadedIndex(one, *targets[one.target])
                        _stage(run, http, chosen[number], result)
                case DocumentsRead(number, documents, size):
                    if loading is not None and number in chosen:
                        loading.put(chosen[number].name, documents)
                    run.report(size, len(documents))
                case IndexEnd(number, tally):
                    if number in chosen:
                        chosen[number].tally = tally
    finally:
        source.close()
    return found


def _stage(run: LoadRun, http: ElasticHttp, one: LoadedIndex, result: LoadResult) -> None:
    one.uuid = stage(http, one.name, one.definition, run.run, one.target, run.until)
    result.indices.append(one)


class _Loading:
    """Threads that send documents while the next ones are read. At most LOADERS pages wait."""

    def __init__(self, http: ElasticHttp) -> None:
        self._http = http
        self._queue: Queue[tuple[str, list[Hit]] | None] = Queue(LOADERS)
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"elasticsearch-load-{n}", daemon=True)
            for n in range(LOADERS)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, name: str, documents: list[Hit]) -> None:
        """Raises the error of a thread that failed."""
        self._put((name, documents))

    def _put(self, what: tuple[str, list[Hit]] | None) -> None:
        while True:
            if self._error is not None:
                raise self._error
            try:
                self._queue.put(what, timeout=_PUT_SECONDS)
            except Full:
                continue
            return

    def end(self, *, failed: bool = False) -> None:
        """Returns when all documents are in. After a failure, when no thread sends any more."""
        if failed:
            self._error = self._error or CancelledError("The run ended.")
        else:
            for _ in self._threads:
                self._put(None)
        for thread in self._threads:
            thread.join()
        if self._error is not None and not failed:
            raise self._error

    def _work(self) -> None:
        try:
            while (what := self._next()) is not None:
                Loader(self._http, what[0]).load(what[1])
        except BaseException as error:  # noqa: BLE001 - handed to the thread that reads
            self._error = self._error or error

    def _next(self) -> tuple[str, list[Hit]] | None:
        while self._error is None:
            try:
                return self._queue.get(timeout=_PUT_SECONDS)
            except Empty:
                continue
        return None
