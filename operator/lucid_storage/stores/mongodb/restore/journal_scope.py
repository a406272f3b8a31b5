"""What a journal may name. Pure.

It lies in a target database, where an application's login may write too, while what it says is done with the
operator's login. So it is believed only within the databases of its Restore, which the operator knows from its own
record, and only in names that are this run's; and of views in such as stay within their database.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.stores.mongodb.restore.catalog import FUNCTIONS, OLD_PREFIX, STAGED_PREFIX, View
from lucid_storage.stores.mongodb.restore.journal import JOURNALS, Direct, Journal, Pair, SwapState
from lucid_storage.stores.mongodb.restore.view_reach import beyond


def check(journal: Journal, databases: Collection[str]) -> None:
    """Raises RefusedError where the swap has not begun, and LucidError where it waits for somebody to mend it."""
    found = next(_strange(journal, databases), None)
    if found is None:
        return
    said = (
        f"Somebody changed the record {journal.run} in {min(databases)}.{JOURNALS}: {found}, which this restore does"
        " not write. None of it is carried out."
    )
    if journal.state in (SwapState.SWAPPING, SwapState.SWAPPED):
        raise LucidError(
            f"{said} Take that out of the record again; the work then goes on by itself.",
            reason=Reason.RESTORE_BLOCKED,
        )
    raise RefusedError(
        f"{said} See who may write into that database, then restore again.", reason=Reason.RESTORE_BLOCKED
    )


def within(journal: Journal, databases: Collection[str]) -> Journal:
    """What of it is this restore's: a run that is given up is taken back, whatever somebody added to its record."""
    return replace(
        journal,
        pairs=tuple(pair for pair in journal.pairs if _pair(pair, journal.run, databases) is None),
        views=tuple(view for view in journal.views if _view(view, databases) is None),
        direct=tuple(one for one in journal.direct if _direct(one, journal.run, databases) is None),
        fence={name: number for name, number in journal.fence.items() if name in databases},
    )


def _strange(journal: Journal, databases: Collection[str]) -> Iterator[str]:
    for pair in journal.pairs:
        yield from _told(_pair(pair, journal.run, databases))
    for view in journal.views:
        yield from _told(_view(view, databases))
    for direct in journal.direct:
        yield from _told(_direct(direct, journal.run, databases))
    for name in journal.fence:
        if name not in databases:
            yield f"it names the database {name[:100]}"


def _told(strange: str | None) -> Iterator[str]:
    if strange is not None:
        yield strange[:200]


def _pair(pair: Pair, run: str, databases: Collection[str]) -> str | None:
    """What is wrong with it; None when nothing is."""
    if pair.staged != f"{STAGED_PREFIX}{run}_{pair.number}":
        return f"it stages {pair.database}.{pair.staged}"
    return _target(pair.database, pair.name, databases)


def _view(view: View, databases: Collection[str]) -> str | None:
    reach = beyond(view.pipeline)
    if reach is not None:
        return f"it makes the view {view.database}.{view.name}, which {reach}"
    return _target(view.database, view.name, databases)


def _direct(direct: Direct, run: str, databases: Collection[str]) -> str | None:
    if direct.listed is not None and not direct.listed.startswith(f"{STAGED_PREFIX}{run}_"):
        return f"it lists {direct.database}.{direct.listed}"
    name = "" if direct.name == FUNCTIONS else direct.name
    return _target(direct.database, name, databases)


def _target(database: str, name: str, databases: Collection[str]) -> str | None:
    if database not in databases or name.startswith((STAGED_PREFIX, OLD_PREFIX, "system.")):
        return f"it names {database}.{name}"
    return None
