"""Backups and restores of Elasticsearch as the worker runs them, with the object in memory."""

import base64
import io
import json
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from jobs.memory_sink import MemorySink
from lucid_storage.archive.manifest import (
    BackupKind,
    ElasticRecord,
    Manifest,
    ObjectKind,
    Origin,
    Packing,
    Selection,
)
from lucid_storage.errors import LucidError
from lucid_storage.jobs.contract import BackupRun, Taken
from lucid_storage.jobs.elastic_backup import take
from lucid_storage.jobs.elastic_reach import made_by
from lucid_storage.jobs.elastic_restore import ElasticRestoreRun, restore
from lucid_storage.models.backup import BackupEngine, BackupType, ElasticMethod, ElasticSelection
from lucid_storage.models.orders import BackupOrder, Destination, Owner
from lucid_storage.models.restore import ElasticRestore
from testbed.stores.elasticsearch import Elasticsearch


@dataclass
class Backup:
    """What one backup made."""

    taken: Taken
    data: bytes
    id: str

    @property
    def record(self) -> ElasticRecord:
        assert self.taken.record.elasticsearch is not None
        return self.taken.record.elasticsearch

    def manifest(self) -> Manifest:
        now = datetime.now(UTC)
        return Manifest(
            id=self.id,
            kind=BackupKind.FULL,
            timeline="t",
            origin=Origin(cluster="c", namespace="n", name="b", chain="manual"),
            selection=Selection(engines=("elasticsearch",)),
            packing=Packing(compression="none"),
            engines=(self.taken.record,),
            objects=self.taken.objects,
            started_at=now,
            completed_at=now,
            operator_version="0",
        )


@dataclass
class Bed:
    """One server, and the names of one test in it."""

    server: Elasticsearch
    prefix: str
    before_write: Callable[[int], None] | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    sink: MemorySink | None = None
    url: str | None = None

    def name(self, rest: str) -> str:
        return self.prefix + rest

    def index(self, rest: str, body: dict[str, Any] | None = None) -> str:
        self.call("PUT", f"/{self.name(rest)}", body or {"settings": {"number_of_replicas": 0}})
        return self.name(rest)

    def put(self, index: str, identifier: str, source: str | bytes, query: str = "") -> None:
        """The source as these very bytes."""
        data = source if isinstance(source, bytes) else source.encode()
        self.raw("PUT", f"/{index}/_doc/{identifier}?{query}", data)

    def fill(self, index: str, count: int, *, start: int = 0) -> None:
        for begin in range(start, start + count, 5000):
            lines = []
            for number in range(begin, min(begin + 5000, start + count)):
                lines.append(f'{{"index":{{"_id":"doc-{number}"}}}}')
                lines.append(f'{{"n":{number},"half":{number}.50,"text":"{"word " * 20}{number}"}}')
            self.raw("POST", f"/{index}/_bulk", ("\n".join(lines) + "\n").encode(), "application/x-ndjson")
        self.call("POST", f"/{index}/_refresh")

    def call(self, method: str, path: str, body: object = None) -> Any:
        return self.server.request(method, path, body)

    def raw(self, method: str, path: str, data: bytes, content_type: str = "application/json") -> bytes:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.server.port}{path}",
            data=data,
            method=method,
            headers={"Content-Type": content_type},
        )
        if self.server.password:
            token = base64.b64encode(f"lucid:{self.server.password}".encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            text: bytes = answer.read()
        return text

    def exists(self, index: str) -> bool:
        try:
            self.call("GET", f"/{index}/_settings")
        except urllib.error.HTTPError as error:
            assert error.code == 404
            return False
        return True

    def count(self, index: str) -> int:
        self.call("POST", f"/{index}/_refresh")
        return int(self.call("GET", f"/{index}/_count")["count"])

    def source(self, index: str, identifier: str, query: str = "") -> bytes:
        return self.raw("GET", f"/{index}/_source/{identifier}?{query}", b"")

    def indices(self) -> set[str]:
        """All that begin with the prefix, hidden ones too."""
        return set(self.call("GET", f"/{self.prefix}*/_settings?expand_wildcards=all"))

    def run(self, selection: ElasticSelection | None = None, *patterns: str) -> BackupRun:
        selection = selection or ElasticSelection(indices=[f"{self.prefix}*"])
        order = BackupOrder(
            run=uuid.uuid4().hex[:12],
            owner=Owner(cluster="c", namespace="n", name="b", uid="u", spec_hash="h"),
            destination=Destination(),
            chain="manual",
            deadline_seconds=600,
            id=str(uuid.uuid4()),
            type=BackupType.FULL,
            engines=(BackupEngine.ELASTICSEARCH,),
            index_patterns=patterns or ("*",),
            elasticsearch=selection,
        )

        def open_object(kind: ObjectKind, _part: str) -> MemorySink:
            self.sink = MemorySink(kind, self.before_write or (lambda _: None))
            return self.sink

        return BackupRun(
            order=order,
            open_object=open_object,
            report=lambda _size, _documents: None,
            expect=lambda _size: None,
            cancelled=self.cancelled,
        )

    def back_up(self, selection: ElasticSelection | None = None, *patterns: str) -> Backup:
        run = self.run(selection, *patterns)
        taken = take(run, self.url or self.server.url)
        assert self.sink is not None
        assert self.sink.finished
        return Backup(taken, bytes(self.sink.data), run.order.id)

    def restore_run(self, backup: Backup, **options: Any) -> ElasticRestoreRun:
        selection = {k: options.pop(k) for k in ("indices", "rename_to") if k in options}
        return ElasticRestoreRun(
            run=options.pop("run", uuid.uuid4().hex[:12]),
            url=self.url or self.server.url,
            record=backup.record,
            open_source=lambda: Readable(backup.data),
            deadline_seconds=600,
            selection=ElasticRestore(**selection),
            origin=options.pop("origin", made_by(backup.manifest())),
            namespace=options.pop("namespace", "n"),
            **options,
        )


def snapshots(bed: Bed, repository: str) -> list[str]:
    return [one["snapshot"] for one in bed.call("GET", f"/_snapshot/{repository}/_all")["snapshots"]]


def by_snapshot(bed: Bed, repository: str) -> ElasticSelection:
    """All indices of the test."""
    return ElasticSelection(
        indices=[f"{bed.prefix}*"],
        method=ElasticMethod.SNAPSHOT,
        repository=repository,
        allow_unencrypted=True,
    )


class Readable(io.BytesIO):
    """A source."""


class Killed(BaseException):
    """The worker is gone."""


def killed(*_: Any, **__: Any) -> Any:
    """In place of whatever a worker is about to do."""
    raise Killed


def comes_next(bed: Bed, backup: Backup) -> None:
    """Another restore of the same index, which ends before it changes anything itself."""
    run = bed.restore_run(backup, drop_existing=True)

    def gone() -> Any:
        raise LucidError("the source is gone")

    run.open_source = gone
    with pytest.raises(LucidError, match="the source is gone"):
        restore(run)


def hits(bed: Bed, index: str) -> list[Any]:
    """All documents as the server shows them, decoded by something else than the code under test."""
    body = {"size": 1000, "version": True, "sort": [{"_doc": "asc"}]}
    found = json.loads(bed.raw("POST", f"/{index}/_search", json.dumps(body).encode()))
    return sorted(found["hits"]["hits"], key=lambda hit: str(hit["_id"]))
