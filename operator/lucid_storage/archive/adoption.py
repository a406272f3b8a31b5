"""Backups of a former cluster that are ours now (rule 1.8).

A rebuilt cluster has another UID, so the chains of the former one are nobody's: they are read by whoever names them and
never touched. A note in the new chain's folder takes the former chain of the same namespace and name over: retention
counts it, slices go on from it, and a Backup that Git made again finds its data there.

{root}/{new cluster}/{namespace}/{chain}/adopted/{former cluster}.json
"""

from __future__ import annotations

import re
from datetime import datetime

from lucid_storage.archive.destination import ObjectStore
from lucid_storage.archive.layout import ChainFolder
from lucid_storage.archive.manifest import Record

_NOTE = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.json")
"""A cluster is named by a UID; anything else in this folder is nobody's note, and could lead out of the chain."""


class Adoption(Record):
    """What the note says, for people."""

    cluster: str
    at: datetime


def adopted(store: ObjectStore, folder: ChainFolder) -> tuple[ChainFolder, ...]:
    """The former chains that were taken over, in order. Raises DestinationError."""
    names = (entry.path.removeprefix(f"{folder.adopted}/") for entry in store.list(folder.adopted))
    found = (_NOTE.fullmatch(name) for name in names)
    clusters = sorted({match[1] for match in found if match is not None} - {folder.cluster})
    return tuple(folder.of(cluster) for cluster in clusters)


def homes(store: ObjectStore, folder: ChainFolder) -> tuple[ChainFolder, ...]:
    """Where the parts of a chain lie: its own folder first. Raises DestinationError."""
    return (folder, *adopted(store, folder))


def adopt(store: ObjectStore, folder: ChainFolder, former: str, now: datetime) -> bool:
    """Takes the former cluster's chain over; False when that was done before. Raises DestinationError, ValueError."""
    if _NOTE.fullmatch(f"{former}.json") is None or former == folder.cluster:
        raise ValueError(f"{former} is no other cluster's UID")
    note = Adoption(cluster=former, at=now)
    if store.head(folder.adoption(former)) is not None:
        return False
    return store.put_if_absent(folder.adoption(former), note.model_dump_json(by_alias=True).encode())
