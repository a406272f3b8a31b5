"""The terms in which it is decided what a new backup or slice builds on: what is asked, known and answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lucid_storage.archive.layout import SliceName
from lucid_storage.archive.manifest import BackupKind, OplogPoint, Selection
from lucid_storage.errors import Reason

MONGODB = "mongodb"


@dataclass(frozen=True, slots=True)
class OplogView:
    """What is known of a deployment's oplog at one moment."""

    last: OplogPoint
    """The newest majority-committed entry."""
    held: frozenset[OplogPoint] = frozenset()
    """Of the points that `anchors` names, those whose entry is still there with the same hash."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be made. `new_timeline` is the id for a timeline that may have to begin."""

    kind: BackupKind
    cluster: str
    namespace: str
    chain: str
    selection: Selection
    new_timeline: str
    identity: str | None = None
    """Of the MongoDB deployment; None where MongoDB is no part of it."""
    scheduled: bool = False
    key_id: str | None = None
    """The key that it will be written with."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Of the keys in the Secret, by id."""
    taken: frozenset[SliceName] = frozenset()
    """Names under which a slice lies that cannot be believed: no slice can begin there any more (rule 1.8)."""

    @property
    def of_mongodb(self) -> bool:
        return MONGODB in self.selection.engines


@dataclass(frozen=True, slots=True)
class Decision:
    """What is made, and what it follows."""

    kind: BackupKind
    timeline: str
    begins: bool
    """The timeline begins with it."""
    base: str | None = None
    parent: str | None = None
    prev: OplogPoint | None = None
    """Of incrementals (for the slice that they write), differentials and slices: the entry that they begin behind. Of a
    full that joins slices: the entry that these go on from, if nothing in the oplog ended the timeline behind it.
    """
    copied: tuple[str, ...] = ()
    """Of a differential: ids of the slices that it takes its first part from, in order."""
    tail: OplogPoint | None = None
    """Of a differential: where it goes on in the oplog."""
    because: Reason | None = None
    """Why something else is made than was asked for, or why the timeline is new."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing is made."""

    reason: Reason
    message: str
