"""Elasticsearch's part of a restore: loaded beside the live indices, compared, and made live by one call."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import time

from lucid_storage.archive.manifest import ElasticRecord
from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.jobs.contract import Source
from lucid_storage.jobs.elastic_loading import LoadedIndex, LoadResult, LoadRun, discard, load
from lucid_storage.jobs.elastic_reach import check_source, fitting
from lucid_storage.models.restore import ElasticRestore
from lucid_storage.stores.elasticsearch.backup.cluster import identity
from lucid_storage.stores.elasticsearch.backup.definitions import missing_pipelines, put_missing
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp
from lucid_storage.stores.elasticsearch.backup.leftovers import (
    clear,
    clear_shields,
    complete,
    leftovers,
    reopen,
)
from lucid_storage.stores.elasticsearch.backup.names import (
    Allowed,
    is_reserved,
    live_alias,
    renamed,
    scratch_name,
    selected,
    staged_name,
)
from lucid_storage.stores.elasticsearch.backup.shield import lower_shield, raise_shield
from lucid_storage.stores.elasticsearch.backup.snapshots import find_snapshot
from lucid_storage.stores.elasticsearch.backup.staging import check_own, remove
from lucid_storage.stores.elasticsearch.backup.switching import (
    Staged,
    SwitchUncertainError,
    Target,
    check_consent,
    look,
    switch,
)

LABEL = "restore"
LONGEST_NAME = 255
"""Bytes of the name of an index or alias (Elasticsearch's limit)."""


@dataclass(slots=True)
class ElasticRestoreRun:
    """What a restore of Elasticsearch is told."""

    run: str
    """Part of every name that it makes."""
    url: str
    record: ElasticRecord
    open_source: Callable[[], Source]
    """The object of kind elasticsearch.export, from its beginning; may be called more than once."""
    deadline_seconds: int
    index_patterns: tuple[str, ...] = ("*",)
    namespace: str = ""
    """Whose these patterns are."""
    origin: Mapping[str, str] = field(default_factory=dict)
    """Which backup made the snapshot, if it is one: as its own metadata must say it."""
    selection: ElasticRestore = field(default_factory=ElasticRestore)
    drop_existing: bool = False
    compare_hashes: bool = False
    report: Callable[[int, int], None] = lambda _size, _documents: None
    cancelled: threading.Event = field(default_factory=threading.Event)

    def loading(self) -> LoadRun:
        """The part of it that a load needs."""
        return LoadRun(
            run=self.run,
            record=self.record,
            open_source=self.open_source,
            until=int(time()) + self.deadline_seconds,
            report=self.report,
            cancelled=self.cancelled,
            origin=self.origin,
            compare_hashes=self.compare_hashes,
        )


@dataclass(frozen=True, slots=True)
class PlannedIndex:
    """One index that the restore writes."""

    source: str
    """Its name in the backup."""
    target: str
    documents: int
    bytes: int
    overwrites: int
    """Documents that are there now and are replaced."""


@dataclass(frozen=True, slots=True)
class ElasticPlan:
    """What a restore will do. `blocked` is why it cannot."""

    server: str
    """The cluster's uuid."""
    indices: tuple[PlannedIndex, ...]
    blocked: LucidError | None = None


@dataclass(frozen=True, slots=True)
class ElasticRestored:
    """What a restore did."""

    server: str
    indices: tuple[str, ...]
    documents: int
    bytes: int
    notes: tuple[str, ...]


def plan(run: ElasticRestoreRun) -> ElasticPlan:
    """Reads only. Raises LucidError for a choice that cannot be carried out at all."""
    names = chosen(run)
    http = _connect(run)
    try:
        who, _ = identity(http)
        targets = {name: look(http, target) for name, target in names.items()}
        if run.record.repository is not None and run.record.snapshot is not None:
            find_snapshot(http, run.record.repository, run.record.snapshot, run.origin)
        blocked: LucidError | None = None
        try:
            check_consent(list(targets.values()), drop_existing=run.drop_existing)
        except LucidError as error:
            blocked = error
        records = {one.name: one for one in run.record.indices}
        indices = tuple(
            PlannedIndex(name, there.name, records[name].documents, records[name].bytes, there.documents)
            for name, there in targets.items()
        )
        return ElasticPlan(who, indices, blocked)
    finally:
        http.close()


def server(run: ElasticRestoreRun) -> str:
    """The cluster's uuid. Raises LucidError."""
    http = _connect(run)
    try:
        return identity(http)[0]
    finally:
        http.close()


def restore(run: ElasticRestoreRun) -> ElasticRestored:
    """Blocks until the restored indices are live. Raises LucidError; then every target is as it was.

    After the switch an error leaves the new indices live, and hidden from wildcards until the next run finishes them.
    """
    names = chosen(run)
    allowed = Allowed(run.index_patterns)
    http = _connect(run)
    try:
        who, _ = identity(http)
        cleared = clear(http, list(names.values()), run.run, time())
        notes = cleared.notes
        targets = {name: look(http, target) for name, target in names.items()}
        check_consent(list(targets.values()), drop_existing=run.drop_existing)
        result = _load(
            run, http, {name: (staged_name(target, run.run), target) for name, target in names.items()}
        )
        notes += _make_live(run, http, result, targets, allowed)
        notes += _templates(http, result, allowed)
        notes += missing_pipelines(http, [(one.target, one.definition) for one in result.indices])
        clear_shields(http, list(names.values()), run.run, time(), cleared.met)
        return ElasticRestored(
            who,
            tuple(names.values()),
            sum(one.tally.documents for one in result.indices),
            sum(one.tally.bytes for one in result.indices),
            tuple(notes),
        )
    finally:
        http.close()


def prove(run: ElasticRestoreRun) -> tuple[int, int]:
    """Loads the whole backup under reserved names, compares it and removes it again; returns documents and bytes.

    Raises LucidError(CountMismatch, ArchiveDamaged and others) when it is not what the manifest says.
    """
    run.compare_hashes = True
    names = {one.name: scratch_name(run.run, number) for number, one in enumerate(run.record.indices)}
    check_source(run.record, names, run.origin, run.namespace, Allowed(run.index_patterns))
    http = _connect(run)
    try:
        cleared = clear(http, [], run.run, time())
        result = _load(run, http, {name: (scratch, scratch) for name, scratch in names.items()})
        for one in result.indices:
            remove(http, one.name)
        clear_shields(http, [], run.run, time(), cleared.met)
        return (
            sum(one.tally.documents for one in result.indices),
            sum(one.tally.bytes for one in result.indices),
        )
    except LucidError as error:
        for name, scratch in reversed(names.items()):  # ..._10 before ..._1
            error.message = error.message.replace(scratch, name)
        raise
    finally:
        http.close()


def chosen(run: ElasticRestoreRun) -> dict[str, str]:
    """The indices to restore, {name in the backup: name afterwards}. Raises RefusedError and NotAllowedError."""
    wanted = run.selection.indices or ()
    names = {
        one.name: renamed(one.name, run.selection.rename_to)
        for one in run.record.indices
        if selected(one.name, (), wanted)
    }
    missing = [one for one in wanted if "*" not in one and one not in names]
    if missing or (wanted and not names):
        raise RefusedError(
            f"The backup holds no index {(missing or list(wanted))[0]}; change elasticsearch.indices.",
            reason=Reason.INVALID_SPEC,
        )
    allowed = Allowed(run.index_patterns)
    check_source(run.record, names, run.origin, run.namespace, allowed)
    for target, times in Counter(names.values()).items():
        allowed.check(target)
        if times > 1:
            raise RefusedError(
                f"{times} indices would become {target}; write {{index}} into elasticsearch.renameTo.",
                reason=Reason.INVALID_SPEC,
            )
        if is_reserved(target) or _longest(target, run.run) > LONGEST_NAME:
            raise RefusedError(
                f"An index cannot become {target[:100]}: the name is reserved or too long; change"
                " elasticsearch.renameTo.",
                reason=Reason.INVALID_SPEC,
            )
    return names


def _longest(target: str, run: str) -> int:
    return len(live_alias(staged_name(target, run)).encode())


def _connect(run: ElasticRestoreRun) -> ElasticHttp:
    return ElasticHttp(run.url, LABEL, run.loading().pause)


def _load(run: ElasticRestoreRun, http: ElasticHttp, targets: dict[str, tuple[str, str]]) -> LoadResult:
    loading = run.loading()
    raise_shield(http, run.run, loading.until, [target for _, target in targets.values()])
    try:
        return load(loading, http, targets)
    except BaseException:
        _lower_if_empty(http, run.run)
        raise


def _lower_if_empty(http: ElasticHttp, run: str) -> None:
    """The shield says whose a leftover is and what the run closed to writes, so it stays as long as there is any."""
    try:
        reopen(http, [], run, 0)
        if not any(left.run == run for left in leftovers(http)):
            lower_shield(http, run)
    except LucidError:
        return  # the next run does it


def _make_live(
    run: ElasticRestoreRun,
    http: ElasticHttp,
    result: LoadResult,
    targets: dict[str, Target],
    allowed: Allowed,
) -> list[str]:
    def staged(one: LoadedIndex) -> Staged:
        # Under another name it stands beside the old one, and an alias over both would find everything twice.
        aliases = one.definition.aliases if one.target == one.definition.target else {}
        return Staged(one.name, targets[one.definition.target], aliases)

    def closing(closed: Sequence[str]) -> None:
        raise_shield(http, run.run, run.loading().until, [one.target for one in result.indices], closed)

    notes = [
        f"{one.target} got another name, so its aliases were not set: {', '.join(sorted(one.definition.aliases))}."
        for one in result.indices
        if one.target != one.definition.target and one.definition.aliases
    ]
    try:
        run.loading().check()
        for one in result.indices:
            check_own(http, one.name, one.uuid)
        notes += switch(
            http,
            [staged(one) for one in result.indices],
            allowed,
            drop_existing=run.drop_existing,
            closing=closing,
        )
    except SwitchUncertainError:
        raise  # they may be live any moment: the next run sees what they are
    except BaseException:
        discard(http, [one.name for one in result.indices])
        _lower_if_empty(http, run.run)
        raise
    for left in leftovers(http):
        if left.run == run.run and left.switched:
            notes += complete(http, left)
    return notes


def _templates(http: ElasticHttp, result: LoadResult, allowed: Allowed) -> list[str]:
    """Those that are missing, and that reach no index that the namespace may not use."""
    fit, notes = fitting(http, result.templates, allowed)
    return notes + put_missing(http, fit)
