"""Which entries of the oplog end a timeline (rule 1.7). Judged from the oplog alone.

A rename that brings a collection in from where the backups do not look cannot be replayed from them: the documents of
the collection are in no slice. One that takes a collection out, or has a reserved name on either side, belongs to a
restore or leaves the selection; what follows it is another history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from lucid_storage.archive.manifest import Closing, Optime, Selection
from lucid_storage.models.meta import RESERVED_DATABASES, RESERVED_PREFIXES


@dataclass(frozen=True, slots=True)
class OplogHeader:
    """What has to be known of an entry. Operations nested in applyOps have headers of their own."""

    optime: Optime
    op: str
    """i, u, d, c or n."""
    namespace: str
    """`<database>.<collection>`; of a rename, its source."""
    command: str | None = None
    """Name of the command, of `c` only."""
    target: str | None = None
    """Where a rename leads."""


def is_reserved(namespace: str) -> bool:
    """Whether a collection is staged, moved aside or scratch: invisible to backups."""
    database, _, collection = namespace.partition(".")
    return database.startswith(RESERVED_PREFIXES) or collection.startswith(RESERVED_PREFIXES)


def selects(selection: Selection, namespace: str, patterns: Sequence[str] = ("*",)) -> bool:
    """Whether backups of this selection hold the collection. `patterns`: the databases that the namespace may use."""
    database, _, _ = namespace.partition(".")
    if is_reserved(namespace) or database in RESERVED_DATABASES:
        return False
    if selection.collections and namespace not in selection.collections:
        return False
    if selection.databases and database not in selection.databases:
        return False
    return any(fnmatchcase(database, pattern) for pattern in patterns)


def closes(header: OplogHeader, selection: Selection, patterns: Sequence[str] = ("*",)) -> Closing | None:
    """Why the timeline ends just before this entry; None when it goes on."""
    if header.op != "c" or header.command != "renameCollection" or header.target is None:
        return None
    source, target = header.namespace, header.target
    into, out_of = selects(selection, target, patterns), selects(selection, source, patterns)
    if is_reserved(source):
        return Closing.RESTORE if into else None
    if is_reserved(target):
        return Closing.RESTORE if out_of else None
    return Closing.RENAME if into != out_of else None
