"""What a new backup or slice builds on: joined or new timeline, base, parent, and the entry that it follows.

Decided from the chain's manifests and what the oplog still holds, and from nothing else (rule 1.1, 1.3, 1.6,
1.7). By hand a backup that cannot go on is refused with a sentence; on a schedule it becomes a full with a new
timeline, since nobody is there to ask for one. The worker of a full asks once more before it writes the manifest: a
slicer may have begun a new timeline meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from lucid_storage.archive.continuity import end, reach, spans
from lucid_storage.archive.decision import MONGODB, Decision, OplogView, Refusal, Request
from lucid_storage.archive.manifest import BackupKind, OplogPoint
from lucid_storage.archive.recorded import Recorded, Trust, good_fulls
from lucid_storage.archive.timeline_state import (
    TimelineState,
    current,
    ends_behind,
    line_end,
    parent_of,
    slices_from,
)
from lucid_storage.errors import Reason


def anchors(records: Iterable[Recorded]) -> tuple[OplogPoint, ...]:
    """The entries that a decision may have to find in the oplog: ask for these before `decide`.

    The first is where the line ends: it and those behind it are worth looking for on every member of the deployment,
    since an older one may rightly have left the oplog.
    """
    state = current(list(records))
    if state is None:
        return ()
    points = [at] if (at := line_end(state)) is not None else []
    points += [end(r.manifest) for r in ends_behind(state, state.run.end if state.run is not None else None)]
    points += [end(full.manifest) for full in good_fulls(state.records)]
    return tuple(dict.fromkeys(points))


def decide(request: Request, records: Sequence[Recorded], oplog: OplogView | None) -> Decision | Refusal:
    """What to make. `records`: those of the chain, of clusters that are ours or adopted.

    `oplog` is None where MongoDB is no part of it, or is no replica set.
    """
    changed = _changed_key(request, records)
    if changed is not None:
        return changed
    if request.kind is not BackupKind.FULL and oplog is None:
        return Refusal(
            Reason.NO_OPLOG,
            "MongoDB runs as a standalone server, which has no oplog. Start it as a replica set, of one member if need"
            " be, or make full backups.",
        )
    state = current(records)
    locked = _locked(request, records, state)
    if locked is not None:
        return _instead(request, locked, oplog)
    differs = _differs(request, state.first) if state is not None else None
    if differs is not None:
        return _instead(request, differs, oplog)
    if request.kind is BackupKind.FULL:
        return _full(request, state, oplog)
    assert oplog is not None
    if request.kind is BackupKind.SLICE:
        return _slice(request, state, oplog)
    return _going_on(request, state, oplog)


# What stands in the way


def _differs(request: Request, first: Recorded) -> Refusal | None:
    """What a chain promises is about MongoDB; other engines are whole in each backup and may come and go."""
    then, now = first.manifest.selection, request.selection
    identity = first.manifest.mongodb.identity if first.manifest.mongodb is not None else None
    advice = "Give this backup a chain of its own (spec.chain)."
    if (MONGODB in then.engines) != request.of_mongodb:
        with_it, without = "with MongoDB", "without MongoDB"
        was, is_now = (with_it, without) if MONGODB in then.engines else (without, with_it)
        return Refusal(
            Reason.CHAIN_MISMATCH,
            f"The chain {request.chain} was begun {was}, and this backup is {is_now}. {advice}",
        )
    if not request.of_mongodb:
        return None
    if set(then.databases) != set(now.databases) or set(then.collections) != set(now.collections):
        return Refusal(
            Reason.CHAIN_MISMATCH,
            f"The chain {request.chain} holds other databases or collections than this backup asks for. {advice}",
        )
    if identity is not None and request.identity is not None and identity != request.identity:
        return Refusal(
            Reason.CHAIN_MISMATCH,
            f"The chain {request.chain} was begun with another MongoDB deployment than the one of now. {advice}",
        )
    return None


def _changed_key(request: Request, records: Sequence[Recorded]) -> Refusal | None:
    """One id never stands for two keys: what was written with the first could not be opened (rule 1.1)."""
    if request.key_id is None:
        return None
    ours = request.fingerprints.get(request.key_id)
    for record in records:
        packing = record.manifest.packing
        if packing.key_id == request.key_id and packing.key_fingerprint not in (None, ours):
            return Refusal(
                Reason.KEY_MISSING,
                f"Under the id {request.key_id} the Secret has another key than the one that earlier backups were"
                " written with. Put the former key back, and add the new one under an id of its own.",
            )
    return None


def _locked(request: Request, records: Sequence[Recorded], state: TimelineState | None) -> Refusal | None:
    """A part of the chain that cannot be opened may be what the new one would have to go on from."""
    if request.kind is BackupKind.FULL:
        return None
    known = state.records[-1].moment if state is not None else None
    for record in records:
        newer = known is None or record.moment > known
        if record.trust is Trust.KEY_MISSING and newer:
            return Refusal(
                Reason.KEY_MISSING,
                f"The newest part of the chain was written with the key {record.manifest.packing.key_id}, which the"
                " Secret lacks or has other bytes for. Put that key back under its id, or make a full backup.",
            )
    return None


def _instead(request: Request, refusal: Refusal, oplog: OplogView | None) -> Decision | Refusal:
    """By hand a refusal. On a schedule a full on a new timeline; a slicer begins a new timeline where it stands."""
    if not request.scheduled:
        return refusal
    anew = Decision(BackupKind.FULL, request.new_timeline, True, because=refusal.reason, note=refusal.message)
    if request.kind is BackupKind.SLICE and oplog is not None:
        return replace(anew, kind=BackupKind.SLICE, prev=oplog.last)
    return anew


# The kinds


def _full(request: Request, state: TimelineState | None, oplog: OplogView | None) -> Decision:
    if state is None:
        return Decision(BackupKind.FULL, request.new_timeline, True)
    if state.closed:
        return Decision(
            BackupKind.FULL,
            request.new_timeline,
            True,
            note=f"The former timeline was closed ({state.run.closing if state.run else ''}).",
        )
    prev = None
    if request.of_mongodb and oplog is not None and state.run is not None:
        prev = _next(request, state, oplog)
        if prev is None:
            note = _gap(request, state, oplog)
            return Decision(BackupKind.FULL, request.new_timeline, True, because=Reason.OPLOG_GAP, note=note)
    return Decision(BackupKind.FULL, state.timeline, False, parent=parent_of(state), prev=prev)


def _slice(request: Request, state: TimelineState | None, oplog: OplogView) -> Decision | Refusal:
    """A slicer (`scheduled`) that cannot go on begins a new timeline at once, so that it is there for the next full."""
    anew = Decision(BackupKind.SLICE, request.new_timeline, True, prev=oplog.last)
    if state is None:
        return anew
    if state.closed:
        return anew
    prev = _next(request, state, oplog)
    if prev is not None:
        return Decision(BackupKind.SLICE, state.timeline, False, parent=parent_of(state), prev=prev)
    if state.run is None and not good_fulls(state.records):
        return anew
    note = _gap(request, state, oplog)
    if not request.scheduled:
        return Refusal(Reason.OPLOG_GAP, note)
    return Decision(
        BackupKind.SLICE, request.new_timeline, True, prev=oplog.last, because=Reason.OPLOG_GAP, note=note
    )


def _going_on(request: Request, state: TimelineState | None, oplog: OplogView) -> Decision | Refusal:
    if state is None:
        return _instead(request, _no_base(request, "the chain has no backup yet"), oplog)
    if state.closed:
        closing = state.run.closing if state.run is not None else None
        return _instead(
            request, _no_base(request, f"its timeline was closed by a restore or a rename ({closing})"), oplog
        )
    if not good_fulls(state.records):
        refusal = _no_base(request, "its full backups failed their check, are gone or never were")
        if not request.scheduled:
            return refusal
        # The slices of this timeline may have begun already; the full joins them.
        return replace(_full(request, state, oplog), because=refusal.reason, note=refusal.message)
    if request.kind is BackupKind.DIFFERENTIAL:
        return _differential(request, state, oplog)
    return _incremental(request, state, oplog)


def _incremental(request: Request, state: TimelineState, oplog: OplogView) -> Decision | Refusal:
    prev = _next(request, state, oplog)
    if prev is None:
        return _instead(request, Refusal(Reason.OPLOG_GAP, _gap(request, state, oplog)), oplog)
    pieces = spans(state.records)
    for full in reversed(good_fulls(state.records)):
        to = end(full.manifest)
        inside = prev.optime <= to.optime  # the slice that is written now holds it
        if inside or reach(full, pieces).optime >= prev.optime:
            return Decision(
                BackupKind.INCREMENTAL,
                state.timeline,
                False,
                base=full.id,
                parent=parent_of(state),
                prev=prev,
            )
    return _instead(request, Refusal(Reason.OPLOG_GAP, _GAP), oplog)


def _differential(request: Request, state: TimelineState, oplog: OplogView) -> Decision | Refusal:
    """The slices since the newest full as far as they go, then the oplog; or the oplog alone (rule 1.6)."""
    full = good_fulls(state.records)[-1]
    start = end(full.manifest)
    line = slices_from(state, start)
    tail = end(line[-1].manifest) if line else start
    if tail not in oplog.held or _foreign(state, tail, oplog) is not None:
        return _instead(request, Refusal(Reason.OPLOG_GAP, _gap(request, state, oplog)), oplog)
    return Decision(
        BackupKind.DIFFERENTIAL,
        state.timeline,
        False,
        base=full.id,
        parent=parent_of(state),
        prev=start,
        copied=tuple(r.id for r in line),
        tail=tail,
    )


# Where the line goes on


def _next(request: Request, state: TimelineState, oplog: OplogView) -> OplogPoint | None:
    """Where the next slice begins: behind the last one, else behind the newest full that the oplog still reaches.

    None is a hole, and so is an end behind it that this oplog does not hold: a slice across it would join what follows
    to a backup of another history.
    """
    at = _reached(request, state, oplog)
    return at if at is not None and _foreign(state, at, oplog) is None else None


def _reached(request: Request, state: TimelineState, oplog: OplogView) -> OplogPoint | None:
    fulls = [end(f.manifest) for f in good_fulls(state.records)]
    if state.run is not None:
        if state.run.end in oplog.held and not _taken(request, state, state.run.end):
            return state.run.end
        fulls = [p for p in fulls if p.optime > state.run.end.optime]
    free = (p for p in reversed(fulls) if not _taken(request, state, p))
    return next((p for p in free if p in oplog.held), None)


def _foreign(state: TimelineState, at: OplogPoint, oplog: OplogView) -> Recorded | None:
    """The newest backup or slice that ended behind `at` at an entry that this oplog never held.

    An oplog that holds `at` holds everything since. So the server was put back to before that end, or lost it although
    a majority had it; or another cluster made it.
    """
    behind = [r for r in ends_behind(state, at) if end(r.manifest) not in oplog.held]
    return behind[-1] if behind else None


def _taken(request: Request, state: TimelineState, point: OplogPoint) -> bool:
    return (state.timeline, point.optime) in request.taken


def _gap(request: Request, state: TimelineState, oplog: OplogView) -> str:
    """Why there is a hole."""
    if any(timeline == state.timeline for timeline, _ in request.taken):
        return _DAMAGED
    found = [r for p in oplog.held if (r := _foreign(state, p, oplog)) is not None]
    if not found:
        return _GAP
    backup = next((r for r in found if r.kind is not BackupKind.SLICE), None)
    what = f"The backup {backup.manifest.origin.name}" if backup is not None else "The last slice"
    return (
        f"{what} is of another history than the oplog: MongoDB was put back to an earlier state, or another cluster"
        " writes into this chain. Make a full backup, and give each cluster a prefix of its own."
    )


_GAP = (
    "The oplog does not reach back to the end of the last backup or slice, so what came between is in no backup. Make a"
    " full backup, and enlarge the oplog or shorten the interval."
)

_DAMAGED = (
    "A slice of the timeline cannot be read or authenticated, so nothing can be joined to it. Make a full backup, and"
    " see who writes to the destination."
)


def _no_base(request: Request, why: str) -> Refusal:
    return Refusal(
        Reason.NO_BASE,
        f"The chain {request.chain} has no full backup to build on: {why}. Make a full backup first.",
    )
