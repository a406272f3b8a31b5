"""What a prune worker says at the end: what is gone, what stays and why, and what can be restored (rule 1.9, 1.11)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lucid_storage.archive.chain_report import report, unrestorable
from lucid_storage.archive.continuity import restorable
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.retention import Outcome, Verdict
from lucid_storage.jobs.reporting import packed
from lucid_storage.models.pruning import PruneOrder, PruneResult, Retained

MOST_REMOVED = 40
"""Ids that one result names: a termination message has 4,096 bytes."""
MOST_RETAINED = 12
MOST_LOST = 12
"""Backups that one result says cannot be restored any more, and so many that can again."""


def result_of(
    order: PruneOrder, after: Sequence[Recorded], unreadable: int, verdicts: Sequence[Verdict], *, more: bool
) -> PruneResult:
    """`after` lies in the chain now, beside so many manifests that cannot be parsed. `more` could be removed."""
    there, named = {r.id for r in after}, {*order.remove, *order.expire}
    asked = (*order.remove, *order.expire, *order.discard, *order.known)
    # A manifest that cannot be parsed may be the one of an id that is missed: nothing is called gone then.
    named_anyway = dict.fromkeys((*_with_snapshots(verdicts), *asked))
    gone = [key for key in named_anyway if key not in there] if not unreadable else []
    retained = [
        Retained(id=v.record.id, because=_sentence(v.because))
        for v in verdicts
        if v.outcome is Outcome.KEEP and v.record.id in asked and (not v.ruled or v.record.id in named)
    ]
    newly, again = _lost(order, after)
    return PruneResult(
        run=order.run,
        ok=True,
        removed=tuple(gone[:MOST_REMOVED]),
        expiry=order.due is not None,
        retained=tuple(retained[:MOST_RETAINED]),
        unrestorable=tuple(newly[-MOST_LOST:]),
        restorable_again=tuple(again[-MOST_LOST:]),
        more=more or len(gone) > MOST_REMOVED or max(len(newly), len(again)) > MOST_LOST,
        chain=report(after, unreadable),
    )


def _lost(order: PruneOrder, after: Sequence[Recorded]) -> tuple[list[str], list[str]]:
    """Of the backups that a sweep asks about: those that cannot be restored, and those that can again. Neither is said
    where a missing key leaves it open.
    """
    asked = (*order.by_hand, *order.known) if order.sweep else ()
    told = frozenset(order.unrestorable)
    newly = {r.id for r in unrestorable(after)}.difference(told, order.silent)
    again = told.intersection(r.id for r in restorable(after)).difference(order.silent)
    return [key for key in asked if key in newly], [key for key in asked if key in again]


def _with_snapshots(verdicts: Sequence[Verdict]) -> Iterable[str]:
    """Snapshots of volumes are the operator's to remove, also when no object asks for it any more."""
    for record in (v.record for v in verdicts):
        if any(volume.snapshot is not None for e in record.manifest.engines for volume in e.volumes):
            yield record.id


def _sentence(because: Sequence[str]) -> str:
    text = f"{because[0][:1].upper()}{because[0][1:]}" if because else "It is kept"
    return f"{text}."


def fitted(result: PruneResult) -> PruneResult:
    """As much of it as one termination message holds. All that is removed is named, and the next worker says the rest:
    without what was removed the lists fit.
    """
    told, most = result, MOST_LOST
    while most and not _fits(told):
        most //= 2
        told = result.model_copy(
            update={
                "retained": result.retained[: MOST_RETAINED * most // MOST_LOST],
                "unrestorable": _last(result.unrestorable, most),
                "restorable_again": _last(result.restorable_again, most),
                "more": True,
            }
        )
    return told


def _last(ids: tuple[str, ...], most: int) -> tuple[str, ...]:
    return ids[max(0, len(ids) - most) :]


def _fits(result: PruneResult) -> bool:
    try:
        packed(result)
    except ValueError:
        return False
    return True
