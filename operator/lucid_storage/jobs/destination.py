"""What a worker has in its hands: the destination, the keys, and the folder of its chain."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from lucid_storage.archive.adoption import homes
from lucid_storage.archive.destination import ObjectStore, open_store
from lucid_storage.archive.keys import Key, Keyring
from lucid_storage.archive.layout import ChainFolder
from lucid_storage.archive.manifest import Manifest, ObjectKind, Packing, StoredObject
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.records import Listing, list_backups, list_chain
from lucid_storage.archive.streams import Identity, PackedSink, PackedSource, key_for, open_sink, open_source
from lucid_storage.archive.streams import packing_for as streams_packing
from lucid_storage.errors import LucidError
from lucid_storage.models.orders import Order
from lucid_storage.models.storage import Compression

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker reads and writes. Raises LucidError when the destination or a key cannot be used."""

    store: ObjectStore
    keyring: Keyring
    key: Key | None
    folder: ChainFolder
    compression: Compression

    @classmethod
    def of(cls, order: Order, environ: Mapping[str, str]) -> Place:
        keyring = Keyring.from_environ(environ)
        return cls(
            open_store(order.destination, environ),
            keyring,
            keyring.key(order.key_id) if order.key_id is not None else None,
            ChainFolder(order.destination.root, order.owner.cluster, order.owner.namespace, order.chain),
            order.compression,
        )

    @property
    def packing(self) -> Packing:
        """Of what is written."""
        return streams_packing(self.compression, self.key)

    def listing(self) -> Listing:
        """Backups and slices of the chain, and what lies there as a manifest and is none."""
        found = list_chain(self.store, homes(self.store, self.folder), self.keyring)
        for one in found.unreadable:
            logger.warning("%s", one.message)
        return found

    def backups(self) -> list[Recorded]:
        """Without slices."""
        folders = homes(self.store, self.folder)
        return [r for folder in folders for r in list_backups(self.store, folder, self.keyring).records]

    def home(self, manifest: Manifest) -> ChainFolder:
        """Where a backup or slice of the chain lies: in ours, or in that of a cluster that was adopted."""
        return self.folder.of(manifest.origin.cluster)

    def records(self) -> list[Recorded]:
        """Those of the listing that are manifests."""
        return list(self.listing().records)

    def source(self, manifest: Manifest, stored: StoredObject) -> PackedSource:
        """One object of a backup, checked against its manifest while it is read."""
        return open_source(
            self.store,
            stored.path,
            Identity.of(manifest.id, stored),
            manifest.packing,
            key_for(manifest.packing, self.keyring),
            stored,
        )


class Uploads:
    """The objects of one backup on their way: what does not come to an end is taken back."""

    def __init__(self, place: Place, backup: str) -> None:
        self._place = place
        self._backup = backup
        self._lock = threading.Lock()
        self._sinks: dict[str, PackedSink] = {}
        self._given_up = False

    def open(self, kind: ObjectKind, part: str = "") -> PackedSink:
        """A new object in the backup's folder."""
        path = self._place.folder.object(self._backup, kind, part)
        sink = open_sink(
            self._place.store,
            path,
            Identity(self._backup, kind, part),
            self._place.packing,
            self._place.key,
            self._place.compression.level,
        )
        with self._lock:
            self._sinks[path] = sink
            given_up = self._given_up
        if given_up:
            sink.abort()
        return sink

    def give_up(self) -> None:
        """Abort what is on its way, so that whoever writes ends too."""
        with self._lock:
            self._given_up = True
            sinks = list(self._sinks.values())
        for sink in sinks:
            sink.abort()

    def take_back(self, kinds: tuple[ObjectKind, ...] | None = None) -> None:
        """Abort and delete what was written (of these kinds). What the destination refuses, `prune` finds later."""
        with self._lock:
            chosen = [
                path
                for path in self._sinks
                if kinds is None or any(path.rsplit("/", 1)[-1].startswith(kind) for kind in kinds)
            ]
            sinks = [self._sinks.pop(path) for path in chosen]
        for path, sink in zip(chosen, sinks, strict=True):
            sink.abort()
            with suppress(LucidError):
                self._place.store.delete(path)
        if kinds is None:
            # An upload that a part brought back behind its abort, for one.
            with suppress(LucidError):
                self._place.store.delete_abandoned(f"{self._place.folder.backups}/{self._backup}", None)
