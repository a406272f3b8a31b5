"""The chain that a prune worker works on: what lies in it, and whether this is the place that it was in."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from lucid_storage.archive import holds
from lucid_storage.archive.destination import ObjectStore
from lucid_storage.archive.layout import MARK, ChainFolder
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.records import list_chain
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.destination import Place
from lucid_storage.models.pruning import PruneOrder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chain:
    """What a chain consists of: what lies in its own folder, which comes first, and in those of adopted clusters."""

    folders: tuple[ChainFolder, ...]
    records: tuple[Recorded, ...]
    unreadable: int
    marked: frozenset[str]
    """Ids of backups whose data are to go as soon as nothing needs them."""
    left: frozenset[str]
    """Ids of backups of which anything lies there, with a manifest or without."""

    @property
    def own(self) -> ChainFolder:
        return self.folders[0]

    @property
    def ids(self) -> frozenset[str]:
        """Of what has a manifest that can be parsed."""
        return frozenset(record.id for record in self.records)

    def home(self, record: Recorded) -> ChainFolder:
        return self.own.of(record.manifest.origin.cluster)


def read_chain(place: Place, folders: tuple[ChainFolder, ...]) -> Chain:
    """What lies there now. Raises DestinationError."""
    found = list_chain(place.store, folders, place.keyring)
    below = [
        entry.path.removeprefix(f"{folder.backups}/").split("/")
        for folder in folders
        for entry in place.store.list(folder.backups)
    ]
    for one in found.unreadable:
        logger.warning("%s", one.message)
    return Chain(
        folders,
        found.records,
        len(found.unreadable),
        marked=frozenset(names[-2] for names in below if len(names) > 1 and names[-1] == MARK),
        left=frozenset(names[0] for names in below if len(names) > 1),
    )


def begun(store: ObjectStore, chain: Chain, order: PruneOrder) -> frozenset[str]:
    """Of the backups that the order names and that have no manifest, those that a worker removed here before, wholly or
    in part: objects of them are left, or its claim. Raises LucidError where nothing at all tells that the chain was
    here: the last good backup is never removed, so this is another place, or an empty one that was mounted instead.
    """
    missed = frozenset((*order.remove, *order.expire, *order.known)) - chain.ids
    seen = chain.left
    if missed:
        seen = seen.union(*(holds.announced(store, folder) for folder in chain.folders))
    if order.known and not chain.records and not chain.unreadable and not missed & seen:
        raise LucidError(
            f"None of the backups of the chain {order.chain} lies in {store.location}/{chain.own.path}. See"
            " whether that is the right bucket, prefix or volume; nothing was removed.",
            reason=Reason.DESTINATION_UNAVAILABLE,
        )
    return missed & seen
