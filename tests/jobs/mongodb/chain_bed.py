"""A chain in a folder, with the workers' parts called in this process, so that a test can act between any two steps."""

import io
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import bson

from lucid_storage.archive.content import streamed
from lucid_storage.archive.decision import Decision, Refusal, Request
from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.keys import Keyring
from lucid_storage.archive.layout import ChainFolder
from lucid_storage.archive.manifest import (
    BackupKind,
    Manifest,
    ObjectKind,
    Origin,
    Proof,
    ProofLevel,
    StoredObject,
)
from lucid_storage.archive.mongodump import OPLOG, ArchiveReader, Chunk
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.records import write_manifest, write_proof
from lucid_storage.archive.timeline import anchors, decide
from lucid_storage.errors import LucidError
from lucid_storage.jobs.contract import BackupRun, Sink, Taken
from lucid_storage.jobs.destination import Place, Uploads
from lucid_storage.jobs.mongodb_backup import MongoBackup
from lucid_storage.jobs.results import selection_of
from lucid_storage.jobs.slicer import Slicer
from lucid_storage.models.backup import BackupEngine, BackupType, MongoSelection
from lucid_storage.models.orders import BackupOrder, Destination, Owner
from lucid_storage.models.slicing import SliceOrder
from lucid_storage.models.storage import Compression

OWNER = Owner(cluster="c", namespace="n", name="b", uid="u", spec_hash="h")


class Gated:
    """A sink that asks before each write."""

    def __init__(self, sink: Sink, gate: Callable[[int], None]) -> None:
        self._sink, self._gate, self._size = sink, gate, 0

    def write(self, data: bytes | bytearray | memoryview, /) -> object:
        self._gate(self._size)
        self._size += len(data)
        return self._sink.write(data)

    def finish(self) -> StoredObject:
        return self._sink.finish()

    def abort(self) -> None:
        self._sink.abort()


@dataclass
class Chain:
    """One chain of one deployment."""

    folder: Path
    uri: str
    selection: MongoSelection
    scheduled: bool = False
    store: FolderStore = field(init=False)
    place: Place = field(init=False)
    _slicers: list[Slicer] = field(default_factory=list)

    def __post_init__(self) -> None:
        keys = self.folder / "keys"
        keys.mkdir()
        (keys / "k1").write_bytes(bytes(range(32)))
        (self.folder / "destination").mkdir()
        keyring = Keyring(keys)
        self.store = FolderStore(self.folder / "destination")
        chain = ChainFolder("", "c", "n", "manual")
        self.place = Place(self.store, keyring, keyring.key("k1"), chain, Compression())

    def records(self) -> list[Recorded]:
        return self.place.records()

    def slices(self) -> list[Manifest]:
        found = [r.manifest for r in self.records() if r.kind is BackupKind.SLICE]
        return sorted(found, key=lambda m: m.prev.optime if m.prev else m.started_at)  # type: ignore[arg-type, return-value]

    def files(self) -> set[str]:
        root = self.folder / "destination"
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}

    def order(self, kind: BackupType, *, slicing: bool = False) -> BackupOrder:
        return BackupOrder(
            run=uuid.uuid4().hex[:8],
            id=str(uuid.uuid4()),
            type=kind,
            scheduled=self.scheduled,
            slicing=slicing,
            engines=(BackupEngine.MONGODB,),
            owner=OWNER,
            destination=Destination(),
            chain="manual",
            key_id="k1",
            deadline_seconds=600,
            mongodb=self.selection,
        )

    def back_up(
        self, kind: BackupType, *, slicing: bool = False, gate: Callable[[int], None] = lambda _: None
    ) -> Manifest:
        """As the worker does it: decide, take, manifest, proof. `gate` is called before each write with the bytes
        that went before, and may block.
        """
        order = self.order(kind, slicing=slicing)
        with MongoBackup(order, self.uri, self.place) as engine:
            records = self.records()
            uploads = Uploads(self.place, order.id)

            def opened(kind: ObjectKind, part: str) -> Sink:
                return Gated(uploads.open(kind, part), gate)

            run = BackupRun(order, opened, lambda _, __: None, lambda _: None)
            decision = decided(order, engine, records)
            if decision.kind is BackupKind.FULL and engine.end_timeline(run, decision):
                decision = decided(order, engine, self.records())
            try:
                taken = engine.take(run, decision, records)
            except BaseException:
                uploads.take_back()
                raise
        manifest = self._manifest(order, decision, taken)
        write_manifest(self.store, self.place.folder, manifest, self.place.key)
        proof = Proof(id=manifest.id, level=ProofLevel.CHECKSUM, at=datetime.now(UTC), seconds=0, passed=True)
        write_proof(self.store, self.place.folder, proof, self.place.key)
        return manifest

    def slicer(self, **options: Any) -> Slicer:
        order = SliceOrder(
            run=uuid.uuid4().hex[:8],
            owner=OWNER,
            destination=Destination(),
            chain="manual",
            key_id="k1",
            deadline_seconds=600,
            interval_seconds=options.pop("interval_seconds", 3600),
            mongodb=self.selection,
        )
        made = Slicer(order, self.uri, self.place, out=io.StringIO(), poll_seconds=0.05, **options)
        self._slicers.append(made)
        return made

    def close(self) -> None:
        for slicer in self._slicers:
            slicer.close()

    def oplog(self, manifest: Manifest) -> list[dict[str, Any]]:
        """The entries that a backup or slice holds."""
        found: list[dict[str, Any]] = []
        for stored in manifest.objects:
            source = self.place.source(manifest, stored)
            try:
                if manifest.kind is BackupKind.FULL:
                    parts = ArchiveReader(source).parts()
                    chunks = [bytes(p.data) for p in parts if isinstance(p, Chunk) and p.namespace == OPLOG]
                    found += bson.decode_all(b"".join(chunks))
                else:
                    found += [bson.decode(raw) for raw in streamed(source)]
                assert not source.read(1)
            finally:
                source.close()
        return found

    def documents(self, full: Manifest, namespace: str) -> list[dict[str, Any]]:
        """As a full read them, without its oplog."""
        source = self.place.source(full, full.objects[0])
        try:
            parts = ArchiveReader(source).parts()
            chunks = [bytes(p.data) for p in parts if isinstance(p, Chunk) and str(p.namespace) == namespace]
        finally:
            source.close()
        return bson.decode_all(b"".join(chunks))

    def _manifest(self, order: BackupOrder, decision: Decision, taken: Taken) -> Manifest:
        return Manifest(
            id=order.id,
            kind=decision.kind,
            timeline=decision.timeline,
            origin=Origin(cluster="c", namespace="n", name=order.id, chain="manual"),
            selection=selection_of(order),
            packing=self.place.packing,
            base=decision.base,
            parent=decision.parent,
            prev=decision.prev if decision.kind is BackupKind.DIFFERENTIAL else None,
            engines=(taken.record,),
            objects=taken.objects,
            started_at=datetime.now(UTC),
            completed_at=datetime.now(UTC),
            operator_version="test",
        )


def decided(order: BackupOrder, engine: MongoBackup, records: list[Recorded]) -> Decision:
    request = Request(
        kind=BackupKind(order.type),
        cluster="c",
        namespace="n",
        chain="manual",
        selection=selection_of(order),
        new_timeline=str(uuid.uuid4()),
        identity=engine.identity,
        scheduled=order.scheduled,
        key_id="k1",
        fingerprints={"k1": engine._place.key.fingerprint if engine._place.key else ""},
        taken=engine._place.listing().taken(engine._place.folder),
    )
    decision = decide(request, records, engine.look(anchors(records)))
    if isinstance(decision, Refusal):
        raise LucidError(decision.message, reason=decision.reason)
    return decision


def told(slicer: Slicer) -> list[dict[str, Any]]:
    """What a slicer said so far."""
    text = slicer.out.getvalue()  # type: ignore[attr-defined]
    return [json.loads(line)["slicing"] for line in text.splitlines()]


def one_line(pieces: list[Manifest]) -> None:
    """Each slice begins where the one before it ends."""
    for earlier, later in pairwise(pieces):
        assert earlier.mongodb is not None
        assert later.prev == earlier.mongodb.to


@contextmanager
def asked(chain: Chain, seconds: float = 0.2) -> Iterator[None]:
    """Slices are asked for all the time, so that a running slicer writes one after another."""
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(seconds):
            chain.place.store.put(chain.place.folder.cut, b"{}")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def running(slicer: Slicer) -> Iterator[Slicer]:
    """The slicer in a thread of its own, stopped at the end."""
    thread = threading.Thread(target=slicer.run)
    thread.start()
    try:
        yield slicer
    finally:
        slicer.stop.set()
        thread.join(30)
    assert not thread.is_alive()
