"""What the oplog of a deployment holds of a chain, read from whichever member still holds it.

Members keep oplogs of their own: one that was synced anew or has a smaller oplog begins later than the others. What
one of them lacks is a hole only when no other has it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lucid_storage.archive.decision import OplogView
from lucid_storage.archive.manifest import OplogPoint
from lucid_storage.errors import StoreUnavailableError
from lucid_storage.jobs.mongodb_oplog import entry_point, recorded
from lucid_storage.models.backup import ReadPreference
from lucid_storage.stores.mongodb.dump.member import PinnedMember
from lucid_storage.stores.mongodb.dump.oplog import Oplog
from lucid_storage.stores.mongodb.dump.optimes import OpTime
from lucid_storage.stores.mongodb.dump.pinning import newest, others

logger = logging.getLogger(__name__)

BEHIND_SECONDS = 15.0
"""A primary writes a no-op every 10 s, so its oplog is soon later than what a backup of its past ended with. Another
member that stands still for so long is not asked.
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen, and the member that showed it."""

    member: PinnedMember
    view: OplogView


def look(
    uri: str,
    member: PinnedMember,
    preference: ReadPreference,
    points: Sequence[OplogPoint],
    check: Callable[[], None] = lambda: None,
) -> Seen:
    """The end of the oplog, with everything that was confirmed to a client by now, and which of the points it holds.

    Where the member lacks the first point, or one behind it, the others are asked; the member that is returned may be
    another one then, and the given one is closed. Raises StoreUnavailableError for a member that lags behind.
    """
    latest = newest(uri)
    held = _held(member, latest, points, check)
    needed = {p for p in points if p.optime >= points[0].optime}
    best = member
    try:
        for other in others(uri, preference, member) if not needed <= held else ():
            more = _held_by(other, latest, points, check)
            if len(more) <= len(held):
                other.close()
                continue
            if best is not member:
                best.close()
            best, held = other, more
            if needed <= held:
                break
        view = OplogView(recorded(Oplog(best).last()), held)
    except BaseException:
        if best is not member:
            best.close()
        raise
    if best is not member:
        logger.info("reading the oplog of %s, since that of %s begins later", best.host, member.host)
        member.close()
    return Seen(best, view)


def _held_by(
    other: PinnedMember, latest: OpTime | None, points: Sequence[OplogPoint], check: Callable[[], None]
) -> frozenset[OplogPoint]:
    """Nothing of one that cannot be read from now."""
    try:
        return _held(other, latest, points, check, BEHIND_SECONDS)
    except StoreUnavailableError as error:
        logger.info("%s is not asked: %s", other.host, error.message)
        return frozenset()
    except BaseException:
        other.close()
        raise


def _held(
    member: PinnedMember,
    latest: OpTime | None,
    points: Sequence[OplogPoint],
    check: Callable[[], None],
    patience: float | None = None,
) -> frozenset[OplogPoint]:
    """Which of the points the member holds, once it is late enough to have them all."""
    if latest is not None:
        member.catch_up(latest, check, patience)
    last = max((entry_point(p).optime for p in points), key=lambda at: at.moment, default=None)
    if last is not None and not member.reaches(last, check, BEHIND_SECONDS) and latest is None:
        raise StoreUnavailableError(
            f"{member.label}: {member.host} is behind what was backed up, and there is no primary; it is tried again."
        )
    oplog = Oplog(member)
    return frozenset(p for p in points if oplog.holds(entry_point(p)))
