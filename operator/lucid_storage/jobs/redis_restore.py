"""Redis key by key out of a backup (rule 2.12): the whole file is read and checked before the first write.

Existing keys are skipped, or replaced with dropExisting; keys that the backup does not hold stay; a key whose time is
over is not revived. Not atomic: clients see keys come one by one, and what was written when a run fails stays.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from time import time

from lucid_storage.archive.manifest import RedisRecord
from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.jobs.contract import CancelledError, Source
from lucid_storage.models.restore import RedisRestore
from lucid_storage.stores.redis.keychoice import KeyChoice
from lucid_storage.stores.redis.loading import BATCH_BYTES, KeyLoader, LoadCounts
from lucid_storage.stores.redis.rdb.dataset import DataSet, Key, ValueSize
from lucid_storage.stores.redis.room import Needed
from lucid_storage.stores.redis.target import check_target, dataset_version
from lucid_storage.stores.redis.wire import Wire, address_of

LABEL = "restore"


@dataclass(slots=True)
class RedisRestoreRun:
    """What a restore of Redis is told."""

    url: str
    record: RedisRecord
    open_source: Callable[[], Source]
    """The object of kind redis.rdb, from its beginning; called for the plan, and for the load."""
    selection: RedisRestore = field(default_factory=RedisRestore)
    drop_existing: bool = False
    allowed: tuple[str, ...] = ("*",)
    """Globs of the keys that the namespace may use."""
    ca_path: str | None = None
    report: Callable[[int, int], None] = lambda _size, _keys: None
    """Adds bytes of the file and keys to the progress of the load."""
    cancelled: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raises CancelledError."""
        if self.cancelled.is_set():
            raise CancelledError("The run was stopped.", reason=Reason.CANCELLED)


@dataclass(slots=True)
class RedisPlan:
    """What the whole file holds, and what of it a restore writes."""

    version: int
    """Of the data set."""
    needs: Mapping[int, Needed]
    """What the keys to restore take at least, by database."""
    large: Mapping[int, tuple[Key, ValueSize]]
    """Keys with values that are larger than a batch, by where they begin in the file."""
    largest: int
    """Bytes of the longest payload."""
    expired: int
    """Chosen keys whose time is over."""
    left_out: int
    """Keys that were not chosen, or are excluded."""
    functions: tuple[bytes, ...]
    """Libraries; they come back with the whole data set only."""
    withheld: int
    """Libraries that the namespace may not replace: clients of all keys call them."""
    bytes: int

    @property
    def keys(self) -> int:
        return sum(need.keys for need in self.needs.values())


@dataclass(frozen=True, slots=True)
class RedisRestored:
    """What a restore did."""

    restored: int
    replaced: int
    skipped: int
    expired: int
    left_out: int
    functions: int
    functions_skipped: int
    withheld: int
    bytes: int

    def describe(self) -> str:
        withheld = (
            f" {self.withheld} function libraries were left out: they are the whole server's, and this namespace may"
            " use some of its keys only."
            if self.withheld
            else ""
        )
        return (
            f"{self.restored} keys restored, {self.replaced} replaced, {self.skipped} skipped because they exist, "
            f"{self.expired} left out because their time is over, {self.left_out} because they were not chosen."
            f"{self._libraries()}{withheld}"
        )

    def _libraries(self) -> str:
        if not self.functions and not self.functions_skipped:
            return ""
        return (
            f" {self.functions} function libraries restored, {self.functions_skipped} skipped because they, or"
            " functions of theirs, exist."
        )


def plan(run: RedisRestoreRun) -> RedisPlan:
    """Reads and checks the whole file, writes nothing, and asks no server.

    Raises ArchiveDamagedError, LucidError(CountMismatch), RefusedError for chosen values that only a module reads.
    """
    choice, now = _choice(run), int(time() * 1000)
    functions: list[bytes] = []
    needs: defaultdict[int, Needed] = defaultdict(Needed)
    large: dict[int, tuple[Key, ValueSize]] = {}
    found = RedisPlan(0, needs, large, 0, 0, 0, (), 0, 0)
    modules: Counter[str] = Counter()
    with closing(run.open_source()) as source:
        data = DataSet(_counting(run, source, found), functions.append)
        while (key := data.next_key()) is not None:
            over = key.expires_at is not None and key.expires_at <= now
            if not choice.wants(key.name):
                found.left_out += 1
                continue
            if over:
                found.expired += 1
            elif key.module is not None:
                modules[key.module] += 1
            if key.module is not None:
                continue
            begins, size = data.offset, data.measure()
            if size.payload > BATCH_BYTES:
                large[begins] = key, size  # one whose time is over too: the server's clock may be behind ours
            if not over:
                needs[key.database].add(len(key.name) + size.plain)
                found.largest = max(found.largest, size.payload)
    if data.contents.total != run.record.keys:
        raise LucidError(
            f"The backup holds {data.contents.total} keys and its manifest says {run.record.keys}; "
            "nothing was written to Redis.",
            reason=Reason.COUNT_MISMATCH,
        )
    if modules:
        raise RefusedError(
            f"{modules.total()} of the chosen keys are of the module type {min(modules)}, which key by key cannot be "
            "restored; leave them out by redis.excludePatterns, or start a server with the backup's file.",
            reason=Reason.NOT_SUPPORTED,
        )
    found.version = data.contents.version
    if choice.everything and "*" in run.allowed:
        found.functions = tuple(functions)
    elif choice.everything:
        found.withheld = len(functions)
    return found


def check(run: RedisRestoreRun) -> None:
    """What can be told of the target without the file. Raises LucidError."""
    with _connected(run) as wire:
        check_target(wire, dataset_version(run.record.version))


def ready(run: RedisRestoreRun) -> RedisPlan:
    """Reads and checks the whole file, and asks the target whether it takes it; writes nothing. Raises LucidError."""
    planned = plan(run)
    with _connected(run) as wire:
        _loader(run, wire, planned)
    return planned


def restore(run: RedisRestoreRun, planned: RedisPlan | None = None) -> RedisRestored:
    """Blocks until all is written, from the file that was read for `planned`, or is now.

    Raises LucidError; before the first write the target is as it was.
    """
    planned = planned or plan(run)
    with _connected(run) as wire:
        loader = _loader(run, wire, planned)
        with _told_how_far(loader.counts):
            for code in planned.functions:
                loader.load_function(code)
            _load(run, planned, loader)
    counts = loader.counts
    return RedisRestored(
        restored=counts.restored,
        replaced=counts.replaced,
        skipped=counts.skipped,
        expired=counts.expired,
        left_out=planned.left_out,
        functions=counts.functions,
        functions_skipped=counts.functions_skipped,
        withheld=planned.withheld,
        bytes=planned.bytes,
    )


def _connected(run: RedisRestoreRun) -> AbstractContextManager[Wire]:
    return closing(Wire(address_of(run.url, LABEL, run.ca_path)))


def _loader(run: RedisRestoreRun, wire: Wire, planned: RedisPlan) -> KeyLoader:
    """Before its first write. Raises LucidError for what the target does not take."""
    loader = KeyLoader(wire, replace=run.drop_existing, check=run.check)
    loader.prepare(planned.version, planned.needs, planned.largest, planned.large.values())
    return loader


def _load(run: RedisRestoreRun, planned: RedisPlan, loader: KeyLoader) -> None:
    """The second time through the file."""
    choice, told = _choice(run), 0

    def read(most: int) -> bytes:
        nonlocal told
        run.check()
        loader.stay()
        data = source.read(most)
        run.report(len(data), loader.counts.written - told)
        told = loader.counts.written
        return data

    with closing(run.open_source()) as source:
        data = DataSet(read)
        while (key := data.next_key()) is not None:
            if key.module is not None or not choice.wants(key.name):
                continue
            large = planned.large.get(data.offset)
            if large is not None:
                loader.add_large(key, large[1], data.write_value)
            else:
                loader.add(key, data.value(), data.size.likely)
        loader.finish()
        run.report(0, loader.counts.written - told)


@contextmanager
def _told_how_far(counts: LoadCounts) -> Iterator[None]:
    """Nothing that was written is taken back: an error says how much that is."""
    try:
        yield
    except LucidError as error:
        if not counts.written and not counts.unanswered and not counts.functions:
            raise
        perhaps = f" (up to {counts.unanswered} more may have been)" if counts.unanswered else ""
        libraries = f" and {counts.functions} function libraries" if counts.functions else ""
        said = f"{counts.written} keys{libraries} had been written by then{perhaps} and are not taken back."
        raise type(error)(f"{error.message} {said}", reason=error.reason) from error


def _choice(run: RedisRestoreRun) -> KeyChoice:
    return KeyChoice(run.selection.key_patterns, run.selection.exclude_patterns, run.allowed)


def _counting(run: RedisRestoreRun, source: Source, found: RedisPlan) -> Callable[[int], bytes]:
    def read(most: int) -> bytes:
        run.check()
        data = source.read(most)
        found.bytes += len(data)
        return data

    return read
