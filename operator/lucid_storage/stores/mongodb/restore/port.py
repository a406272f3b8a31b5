"""What the operator's side of a restore needs of a MongoDB deployment."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lucid_storage.errors import LucidError
from lucid_storage.stores.mongodb.restore.journal import Journal
from lucid_storage.stores.mongodb.restore.overdue import OverdueRun


@dataclass(frozen=True, slots=True)
class Occupant:
    """What has the name of a target now."""

    database: str
    name: str
    type: str
    """collection, view or timeseries."""
    documents: int
    stored_bytes: int = 0
    """On disk with its indexes, where that was asked for."""
    view: Mapping[str, object] | None = None
    """Its definition, of a view: viewOn and pipeline."""


@dataclass(frozen=True, slots=True)
class MemberSpace:
    """Free space of one member; None where it cannot be read."""

    host: str
    free_bytes: int | None


@dataclass(frozen=True, slots=True)
class Marker:
    """A finished restore, in the server that it went to (rule 2.10)."""

    cluster: str
    identity: str
    namespace: str
    name: str
    spec_hash: str
    run: str
    result: str
    run_again: str = ""

    @property
    def key(self) -> str:
        return f"{self.cluster}/{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Swapped:
    """The outcome of a swap."""

    collections: int
    moved_aside: tuple[str, ...]
    left: tuple[str, ...] = ()
    """In words, what is not as in the backup."""


class RestorePort(Protocol):
    """Every method raises LucidError; those that write raise LeadershipLostError through the guard."""

    async def close(self) -> None:
        """Close all connections. Idempotent."""

    async def identity(self) -> str:
        """Of the server that this very connection leads to."""

    async def occupants(self, databases: Sequence[str], *, sizes: bool = False) -> tuple[Occupant, ...]:
        """Collections and views of some databases with their documents, reserved names apart."""

    async def space(self, databases: Sequence[str]) -> tuple[MemberSpace, ...]:
        """Free space of each data-bearing member."""

    async def missing_rights(self, databases: Sequence[str], *, users: bool = False) -> tuple[str, ...]:
        """What the login lacks for a restore, in words; `users` for one of users and roles too."""

    async def journal(self, databases: Sequence[str], run: str) -> Journal | None:
        """The journal of a run, as a majority has it; None before the worker wrote it and after `forget`.

        Here and wherever it is read: raises LucidError (RestoreBlocked) when it names what is not of these databases.
        """

    async def unfit(self, run: str, databases: Sequence[str], *, drop_existing: bool) -> LucidError | None:
        """Why a swap cannot begin as the targets are now; None when it can, or has begun."""

    async def swap(
        self, run: str, databases: Sequence[str], *, drop_existing: bool, keep_minutes: int
    ) -> Swapped:
        """From `ready`: look at the targets once more, seal the journal, swap. From later states: go on.

        The journal says then for how long what was replaced is to stay.

        Safe to call again from any point. Raises RefusedError (TargetNotEmpty, RestoreBlocked) only before the seal;
        what somebody drops, or the server refuses, behind it is told in the outcome, and keeps nothing else back.
        """

    async def discard(self, run: str, databases: Sequence[str]) -> bool:
        """Drop what a run staged; False when its swap has begun, which is then never undone."""

    async def drop_old(self, run: str, databases: Sequence[str]) -> tuple[str, ...]:
        """Drop the replaced collections of a swapped run by UUID, and its journal. What came up in the gap stays, and
        without consent what holds documents: the names of these are returned.
        """

    async def restorable_databases(self) -> tuple[str, ...]:
        """That the login may read and a restore may have been into."""

    async def overdue(
        self, database: str, cluster: str, *, namespaces: Collection[str] = (), after: str = ""
    ) -> tuple[OverdueRun, ...]:
        """Swapped runs whose replaced collections were kept for their time, by the server's clock: those of a
        cluster's Restores, of some namespaces or of all. In order of their ids, some of those behind `after`.
        """

    async def marker(self, databases: Sequence[str], key: str) -> Marker | None:
        """The marker of a restore."""

    async def put_marker(self, databases: Sequence[str], marker: Marker) -> None:
        """Write or replace a marker, durably."""


def first(databases: Sequence[str]) -> str:
    """The database that holds journal and markers of a restore."""
    return min(databases)
