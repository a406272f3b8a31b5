"""Chains of a destination, found by the paths of their manifests, wherever below the given folder they begin."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lucid_storage.archive.adoption import adopted
from lucid_storage.archive.destination import ObjectStore
from lucid_storage.archive.keys import Keyring
from lucid_storage.archive.layout import MANIFEST, ChainFolder
from lucid_storage.archive.manifest import BackupKind
from lucid_storage.archive.recorded import Recorded, of_kind
from lucid_storage.archive.records import Unreadable, list_chain

_MANIFEST_PATH = re.compile(
    r"(?:(?P<root>.+)/)?(?P<cluster>[^/]+)/(?P<namespace>[^/]+)/(?P<chain>[^/]+)/"
    rf"(?:backups/(?P<id>[^/]+)/{re.escape(MANIFEST)}|slices/[^/]+/[0-9]+-[0-9]+\.json)"
)


@dataclass(frozen=True, slots=True)
class Chain:
    """One chain with all that could be read of it."""

    folder: ChainFolder
    records: tuple[Recorded, ...]
    unreadable: tuple[Unreadable, ...] = ()
    lent: tuple[Recorded, ...] = ()
    """Of clusters that it adopted: its own may build on them. They are listed where they lie."""

    @property
    def whole(self) -> tuple[Recorded, ...]:
        """All that a restore can use."""
        return (*self.records, *self.lent)

    @property
    def backups(self) -> list[Recorded]:
        """Without slices, the oldest first."""
        return of_kind(self.records, BackupKind.FULL, BackupKind.INCREMENTAL, BackupKind.DIFFERENTIAL)


def find_chains(store: ObjectStore, root: str) -> list[ChainFolder]:
    """Folders that hold at least one manifest, in order of their paths. Raises DestinationError."""
    matches = (_MANIFEST_PATH.fullmatch(entry.path) for entry in store.list(root))
    return sorted({_folder(found) for found in matches if found is not None}, key=lambda folder: folder.path)


def find_backup(store: ObjectStore, root: str, backup_id: str) -> ChainFolder | None:
    """The chain of a backup, by its id alone. Raises DestinationError."""
    for entry in store.list(root):
        found = _MANIFEST_PATH.fullmatch(entry.path)
        if found is not None and found["id"] == backup_id:
            return _folder(found)
    return None


def _folder(found: re.Match[str]) -> ChainFolder:
    return ChainFolder(found["root"] or "", found["cluster"], found["namespace"], found["chain"])


def read_chain(store: ObjectStore, folder: ChainFolder, keyring: Keyring) -> Chain:
    """Backups and slices. Raises DestinationError; what is no manifest is named and ends nothing."""
    own = list_chain(store, (folder,), keyring)
    lent = list_chain(store, adopted(store, folder), keyring)
    return Chain(folder, own.records, own.unreadable, lent.records)
