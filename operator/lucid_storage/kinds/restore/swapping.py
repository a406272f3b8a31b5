"""Which database is being swapped right now: its collections and indexes are left alone (rule 2.8)."""

from __future__ import annotations

from collections.abc import Iterable

from lucid_storage.kinds.identity import same_server
from lucid_storage.kinds.restore.observed import in_place
from lucid_storage.kube.resources import Resource
from lucid_storage.models.restore import RestorePhase

_IN_PLACE = (RestorePhase.LOADING, RestorePhase.REPLAYING, RestorePhase.SWAPPING)


def swapping(restores: Iterable[Resource], identity: str, database: str) -> str | None:
    """The Restore that swaps collections of this database of this server; None when nobody does. Pure.

    In the gap between two renames a collection is not there, and its resource would make it anew. One in place drops
    and loads under the live names all the time.
    """
    for restore in restores:
        status = restore.status
        if (
            status.get("phase") in (_IN_PLACE if in_place(restore) else (RestorePhase.SWAPPING,))
            and database in (status.get("databases") or [])
            and same_server(str(status.get("serverIdentity") or ""), identity)
        ):
            return f"{restore.key.namespace}/{restore.key.name}"
    return None
