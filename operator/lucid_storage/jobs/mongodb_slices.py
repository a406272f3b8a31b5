"""Slices: stretches of the oplog without a hole between them, written by whoever comes first (rule 1.3, 1.5).

The name of a slice's manifest is made from where it begins and is created only if it is absent, so that of two writers
one wins; the other takes its data back and goes on behind the winner's slice.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from lucid_storage import __version__
from lucid_storage.archive.manifest import (
    BackupKind,
    EngineRecord,
    Manifest,
    MongoRecord,
    ObjectKind,
    OplogPoint,
    Origin,
    StoredObject,
)
from lucid_storage.archive.records import list_slices, write_manifest
from lucid_storage.archive.streams import Identity, PackedSink, open_sink
from lucid_storage.errors import DestinationError, LucidError
from lucid_storage.jobs.clocks import by_either
from lucid_storage.jobs.destination import Place
from lucid_storage.jobs.mongodb_oplog import copy, entry_filter, entry_point, recorded
from lucid_storage.jobs.mongodb_scope import MongoScope
from lucid_storage.models.orders import Order
from lucid_storage.stores.mongodb.dump.member import PinnedMember
from lucid_storage.stores.mongodb.dump.oplog import Oplog

logger = logging.getLogger(__name__)


class SliceThereError(Exception):
    """Somebody else wrote the slice that begins here."""


@dataclass(frozen=True, slots=True)
class Written:
    """A slice that is there."""

    manifest: Manifest
    entries: int = 0
    plain_bytes: int = 0

    @property
    def to(self) -> OplogPoint:
        assert self.manifest.mongodb is not None
        return self.manifest.mongodb.to


@dataclass(frozen=True, slots=True)
class SliceWriter:
    """Writes slices of one chain."""

    order: Order
    place: Place
    scope: MongoScope

    def there(self, timeline: str, prev: OplogPoint) -> Manifest | None:
        """The slice that begins behind this entry, by whomever it was written."""
        path = self.place.folder.slice_manifest(timeline, prev.optime)
        if self.place.store.head(path) is None:
            return None
        listing = list_slices(self.place.store, self.place.folder, self.place.keyring, timeline)
        return next((one.manifest for one in listing.records if one.good and one.manifest.prev == prev), None)

    def write(
        self, member: PinnedMember, timeline: str, prev: OplogPoint, check: Callable[[], None]
    ) -> Written | None:
        """A slice from `prev` to the newest entry that a majority has; None when there is nothing new.

        Raises SliceThereError, OplogGapError, and LucidError where the store or the destination is away; nothing is
        left behind then.
        """
        started = datetime.now(UTC)
        oplog = Oplog(member)
        until = oplog.last()
        if until.optime.moment <= (prev.optime.seconds, prev.optime.counter):
            return None
        lazy = _Lazy(self, timeline, prev)
        try:
            stretch = copy(
                oplog.entries(entry_point(prev), until.optime),
                entry_point(prev),
                entry_filter(self.scope, oplog),
                lazy.write,
                judge=self.scope.closing,
                check=check,
            )
            check()
            objects = lazy.finish()
            identity = member.identity().identity
            mongodb = MongoRecord(
                version=member.version,
                identity=identity,
                member=member.host,
                from_optime=prev.optime,
                to=recorded(stretch.to),
                operations=stretch.operations,
            )
            taken_at = datetime.fromtimestamp(stretch.to.optime.seconds, UTC)
            # A node's clock may be behind, and the order of a worker that slices for weeks as old; the entries are not.
            now = max(by_either(self.order, datetime.now(UTC)), taken_at)
            manifest = Manifest(
                id=lazy.id,
                kind=BackupKind.SLICE,
                timeline=timeline,
                origin=self._origin(),
                selection=self.scope.selection,
                packing=self.place.packing,
                prev=prev,
                engines=(EngineRecord(engine="mongodb", taken_at=taken_at, mongodb=mongodb),),
                objects=objects,
                closing=stretch.closing,
                started_at=started,
                completed_at=now,
                operator_version=__version__,
            )
        except BaseException:
            lazy.take_back()
            raise
        try:
            self._publish(manifest)
        except SliceThereError:
            lazy.take_back()
            raise
        return Written(manifest, stretch.entries, stretch.bytes)

    def _publish(self, manifest: Manifest) -> None:
        """Raises SliceThereError when another slice is there. Any other error leaves the data where they are: the
        manifest may lie there although nobody said so, and prune takes what none names.
        """
        place = self.place
        try:
            write_manifest(place.store, place.folder, manifest, place.key)
        except DestinationError:
            assert manifest.prev is not None
            there = self.there(manifest.timeline, manifest.prev)
            if there is None:
                raise
            if there.id != manifest.id:
                raise SliceThereError from None

    def _origin(self) -> Origin:
        owner = self.order.owner
        return Origin(
            cluster=owner.cluster,
            namespace=owner.namespace,
            name=owner.name,
            spec_hash=owner.spec_hash,
            schedule=owner.schedule,
            slot=owner.slot,
            chain=self.order.chain,
        )


class _Lazy:
    """The slice's data, which a slice of no-ops does not have."""

    def __init__(self, writer: SliceWriter, timeline: str, prev: OplogPoint) -> None:
        self.id = str(uuid.uuid4())
        self._place = writer.place
        self._path = writer.place.folder.slice_data(timeline, prev.optime, self.id)
        self._sink: PackedSink | None = None

    def write(self, data: bytes | bytearray) -> None:
        if self._sink is None:
            identity = Identity(self.id, ObjectKind.MONGODB_OPLOG)
            place = self._place
            self._sink = open_sink(
                place.store, self._path, identity, place.packing, place.key, place.compression.level
            )
        self._sink.write(data)

    def finish(self) -> tuple[StoredObject, ...]:
        return (self._sink.finish(),) if self._sink is not None else ()

    def take_back(self) -> None:
        if self._sink is None:
            return
        self._sink.abort()
        # What the destination refuses now, `prune` finds later: no manifest names it.
        with suppress(LucidError):
            self._place.store.delete(self._path)
