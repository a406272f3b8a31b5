"""The catalog as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from lucid_storage.archive.catalog import Catalog, ListedBackup, ListedChain, ListedTimeline
from lucid_storage.archive.recorded import Trust
from lucid_storage.models import quantity

_HEAD = ("ID", "NAME", "TYPE", "FROM", "TO", "ENGINES", "STORED", "KEY", "PROOF", "TRUST", "RESTORABLE")


def catalog_text(catalog: Catalog) -> str:
    """One block a chain: backups, then what can be restored to the second, then what is broken."""
    if not catalog.chains:
        return f"No backups lie in {catalog.location}.\n"
    blocks = [_chain(chain) for chain in catalog.chains]
    return f"{catalog.location}\n\n" + "\n".join(blocks)


def _chain(chain: ListedChain) -> str:
    below = f", prefix {chain.prefix}" if chain.prefix else ""
    lines = [f"cluster {chain.cluster}, namespace {chain.namespace}, chain {chain.chain}{below}"]
    if chain.backups:
        lines += _table([_HEAD, *(_row(backup) for backup in chain.backups)])
    lines += [_timeline(timeline) for timeline in chain.timelines]
    lines += [f"  BROKEN: {one.message}" for one in chain.broken]
    return "\n".join(lines) + "\n"


def _row(backup: ListedBackup) -> tuple[str, ...]:
    return (
        backup.id,
        backup.name,
        backup.type.value,
        _time(backup.from_time),
        _time(backup.to),
        ",".join(f"{name} (not here)" if name in backup.outside else name for name in backup.engines),
        quantity.for_people(backup.stored_bytes),
        _key(backup),
        _proof(backup),
        backup.trust.value,
        "yes" if backup.restorable else "no",
    )


def _key(backup: ListedBackup) -> str:
    if not backup.encrypted:
        return "-"
    return f"{backup.key_id} (missing)" if backup.trust is Trust.KEY_MISSING else f"{backup.key_id}"


def _proof(backup: ListedBackup) -> str:
    proof = backup.proof
    if proof is None:
        return "none"
    return f"{proof.level} {proof.at:%Y-%m-%d}" if proof.passed else f"{proof.level} FAILED"


def _timeline(timeline: ListedTimeline) -> str:
    spans = [f"{_time(span.first)} to {_time(span.last)}" for span in timeline.recoverable]
    said = "; ".join(spans) if spans else "the ends of its backups only"
    closed = f" ({timeline.closed})" if timeline.closed is not None else ""
    return f"  timeline {timeline.id}: {said}{closed}"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
