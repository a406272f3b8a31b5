"""What somebody reads must not be removed under their hands (rule 1.9).

A reader writes a hold that names backups and slices, and only then looks whether they are about to be removed; whoever
removes writes what is about to go, and only then looks for holds. So at least one of the two sees the other, whatever
the order: the reader plans anew, or the data stay until the next time. Both end by themselves after a while, since
neither a worker nor its pod is sure to say goodbye.

A claim of a removal that left nothing of the chain stays: the next worker would take an empty place for another one.

{chain}/holds/{run}.json          {"ids": [...], "until": "..."}
{chain}/removals/{run}.json       the same
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from pydantic import ValidationError

from lucid_storage.archive.destination import ObjectStore
from lucid_storage.archive.layout import ChainFolder
from lucid_storage.archive.manifest import Record


class Claim(Record):
    """Ids that somebody reads, or is about to remove."""

    ids: tuple[str, ...]
    until: datetime


def holds_folder(folder: ChainFolder) -> str:
    return f"{folder.path}/holds"


def removals_folder(folder: ChainFolder) -> str:
    return f"{folder.path}/removals"


def hold(
    store: ObjectStore, folder: ChainFolder, run: str, ids: Collection[str], until: datetime, now: datetime
) -> frozenset[str]:
    """Holds (or goes on holding) what is read. Returns those that are being removed: none may be read.

    Raises DestinationError; so a destination that is read-only gives no hold, and nobody removes anything there.
    """
    _write(store, f"{holds_folder(folder)}/{run}.json", ids, until)
    return frozenset(ids) & _claimed(store, removals_folder(folder), now)


def release(store: ObjectStore, folder: ChainFolder, run: str) -> None:
    """The reading is over. Raises DestinationError."""
    store.delete(f"{holds_folder(folder)}/{run}.json")


def held(store: ObjectStore, folder: ChainFolder, now: datetime) -> frozenset[str]:
    """What somebody reads. Raises DestinationError."""
    return _claimed(store, holds_folder(folder), now)


def announce_removal(
    store: ObjectStore, folder: ChainFolder, run: str, ids: Collection[str], until: datetime, now: datetime
) -> frozenset[str]:
    """Says what is about to be removed. Returns those that somebody reads: they must stay. Raises DestinationError."""
    _write(store, f"{removals_folder(folder)}/{run}.json", ids, until)
    return frozenset(ids) & held(store, folder, now)


def removal_over(store: ObjectStore, folder: ChainFolder, run: str) -> None:
    """Nothing more is removed in this run. Raises DestinationError."""
    store.delete(f"{removals_folder(folder)}/{run}.json")


def announced(store: ObjectStore, folder: ChainFolder) -> frozenset[str]:
    """What was about to be removed at any time, as far as claims tell. Raises DestinationError."""
    return _claimed(store, removals_folder(folder), None)


def forget_ended(store: ObjectStore, folder: ChainFolder, now: datetime, *, removals: bool = True) -> None:
    """Removes claims that ended by themselves, those of removals on demand. Raises DestinationError."""
    for below in (holds_folder(folder), *([removals_folder(folder)] if removals else [])):
        for entry in list(store.list(below)):
            claim = _read(store, entry.path)
            if claim is not None and claim.until <= now:
                store.delete(entry.path)


def _write(store: ObjectStore, path: str, ids: Collection[str], until: datetime) -> None:
    claim = Claim(ids=tuple(sorted(ids)), until=until)
    store.put(path, claim.model_dump_json(by_alias=True).encode())


def _claimed(store: ObjectStore, below: str, now: datetime | None) -> frozenset[str]:
    """Without `now` of those that ended, too."""
    found: set[str] = set()
    for entry in list(store.list(below)):
        claim = _read(store, entry.path)
        if claim is not None and (now is None or claim.until > now):
            found.update(claim.ids)
    return frozenset(found)


def _read(store: ObjectStore, path: str) -> Claim | None:
    """None for one that is gone meanwhile, or that nobody of ours wrote."""
    data = store.get(path)
    try:
        return Claim.model_validate_json(data) if data is not None else None
    except ValidationError:
        return None
