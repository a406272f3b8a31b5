"""What is replayed of a timeline: each entry once, and as many operations as the manifests hold (rule 1.12). Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Set

from lucid_storage.archive.manifest import Manifest
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.mongodb_restore_plan import MongoPlan
from lucid_storage.stores.mongodb.restore.entries import Moment, moment_of
from lucid_storage.stores.mongodb.restore.rewriting import Rewritten

_KINDS = ("inserts", "updates", "deletes")


def compare_operations(
    plan: MongoPlan, piece: Manifest, applied: Counter[tuple[str, str]], besides: Set[str] = frozenset()
) -> None:
    """What was applied of a piece is what its manifest holds (rule 1.12), but for the namespaces of `besides`.

    Not where collections were chosen: then a name can mean a collection that is restored, and later one that is not.
    """
    if not plan.lineage.complete or piece.mongodb is None:
        return
    for count in piece.mongodb.operations:
        database, _, collection = count.namespace.partition(".")
        if count.namespace in besides or not plan.lineage.base((database, collection)):
            continue
        for kind in _KINDS:
            found, wanted = applied[(count.namespace, kind)], int(getattr(count, kind))
            if found != wanted:
                raise LucidError(
                    f"{found} {kind} were replayed on {count.namespace}, and the backup {piece.id} holds {wanted};"
                    " restore to a moment before it.",
                    reason=Reason.COUNT_MISMATCH,
                )


def counts(replayed: Rewritten) -> Counter[tuple[str, str]]:
    return Counter(
        {
            (namespace, kind): int(getattr(tally, kind))
            for namespace, tally in replayed.by_namespace.items()
            for kind in _KINDS
        }
    )


class Unread:
    """Entries behind a moment: pieces of a timeline may overlap."""

    def __init__(self, raws: Iterable[bytes], last: Moment) -> None:
        self._raws = raws
        self.last = last

    def __iter__(self) -> Iterator[bytes]:
        for raw in self._raws:
            moment = moment_of(raw)
            if moment > self.last:
                self.last = moment
                yield raw
