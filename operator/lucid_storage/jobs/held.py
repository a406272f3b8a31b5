"""What a worker reads is held meanwhile, so that nobody removes it under its hands (rule 1.9)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from lucid_storage.archive import holds
from lucid_storage.archive.destination import ObjectStore
from lucid_storage.archive.layout import ChainFolder
from lucid_storage.errors import DestinationError
from lucid_storage.jobs.clocks import by_both, by_either
from lucid_storage.models.orders import Task

GOODBYE: Final = timedelta(seconds=60)
"""A hold lasts so much longer than the worker may: it lets go by itself, if nothing else did."""


@contextmanager
def held(
    order: Task, store: ObjectStore, folder: ChainFolder, ids: Collection[str], *, writable: bool = True
) -> Iterator[frozenset[str]]:
    """Holds the backups and slices `ids`. Gives those that are being removed already: none of them may be read.

    `writable`: False where a destination may be read-only (rule 2.10); who cannot write there cannot remove either.
    Raises DestinationError.
    """
    now = datetime.now(UTC)
    until = by_either(order, now) + timedelta(seconds=order.deadline_seconds) + GOODBYE
    going: frozenset[str] = frozenset()
    try:
        try:
            going = holds.hold(store, folder, order.run, ids, until, by_both(order, now))
        except DestinationError:
            if writable:
                raise
        yield going
    finally:
        with suppress(DestinationError):  # it ends by itself
            holds.release(store, folder, order.run)
