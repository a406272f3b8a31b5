"""That what was loaded is what the manifest and the archive say, before anything is replayed (rule 1.12)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.mongodb.restore.catalog import Name, Tracked, public_name
from lucid_storage.stores.mongodb.restore.loading import Loader
from lucid_storage.stores.mongodb.restore.target import Target


@dataclass(frozen=True, slots=True)
class Expected:
    """What the manifest says of a collection of the dump."""

    documents: int
    content_hash: str


def check_loaded(target: Target, collections: Iterable[Tracked], loader: Loader) -> None:
    """That the server holds what was sent.

    A second copy of an `_id` took the place of the first, so it holds that many fewer. Raises LucidError
    (CountMismatch).
    """
    for tracked in collections:
        loaded = loader.loaded(tracked)
        held = target.count(tracked.place.database, tracked.place.collection)
        wanted = loaded.documents - loaded.replaced
        # A capped collection that was written to while it was read is longer in the stream than its own limit.
        if held > wanted or (held < wanted - loaded.undecided and not tracked.capped):
            raise _mismatch(tracked, f"the server holds {held} documents", loaded.documents)


def compare(
    dumped: Mapping[Name, Tracked],
    loader: Loader,
    expected: Mapping[Name, Expected],
    found: Mapping[Name, str],
) -> None:
    """That what came out of the archive is what the manifest says. `found` are content hashes of the stream.

    Raises LucidError (CountMismatch).
    """
    for name, wanted in expected.items():
        tracked = dumped.get(name)
        if tracked is None:
            raise LucidError(
                f"{name[0]}.{public_name(name[1])} is in the manifest and not in the archive; restore another backup.",
                reason=Reason.COUNT_MISMATCH,
            )
        loaded = loader.loaded(tracked)
        if (loaded.documents, found.get(name)) != (wanted.documents, wanted.content_hash):
            raise _mismatch(tracked, f"the archive holds {loaded.documents} documents", wanted.documents)


def _mismatch(tracked: Tracked, found: str, wanted: int) -> LucidError:
    return LucidError(
        f"{tracked.name[0]}.{public_name(tracked.name[1])} is not what was backed up: {found}, the backup has {wanted};"
        " restore another backup.",
        reason=Reason.COUNT_MISMATCH,
    )
