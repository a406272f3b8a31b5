"""Drift: bounded descriptions of it, and the guard against fights. Pure."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from datetime import datetime

from lucid_storage.models.base import DriftEntry

ENTRY_LIMIT = 20
VALUE_LIMIT = 256
FIGHT_CORRECTIONS = 20
FIGHT_SECONDS = 600.0


def shown(value: object) -> str:
    """A declared or observed setting as short text. Only definitions come here, never users' documents."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= VALUE_LIMIT else text[: VALUE_LIMIT - 1] + "…"


def entry(field: str, expected: object, actual: object, now: datetime) -> DriftEntry:
    return DriftEntry(
        field=shown(field), expected=shown(expected), actual=shown(actual), since=now.replace(microsecond=0)
    )


def merged(found: Sequence[DriftEntry], before: Sequence[DriftEntry]) -> list[DriftEntry]:
    """What to put into status: known entries keep their `since`, so that an unchanged drift is no write."""
    known = {(e.field, e.expected, e.actual): e for e in before}
    return [known.get((e.field, e.expected, e.actual), e) for e in found[:ENTRY_LIMIT]]


def summary(found: Sequence[DriftEntry]) -> str:
    """The DRIFT column."""
    if not found:
        return "none"
    return found[0].field if len(found) == 1 else f"{len(found)} fields"


class FightGuard:
    """Counts corrections of one generation of one object.

    More than 20 in 10 minutes is a fight that nobody wins by writing on: the guard then stays closed until the
    generation changes or the operator is restarted.
    """

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self._closed = False
        self._times: deque[float] = deque(maxlen=FIGHT_CORRECTIONS)

    def may_correct(self, now: float) -> bool:
        """Ask before a correction, which counts when the answer is yes. `now` is a clock that only goes forward."""
        full = len(self._times) == FIGHT_CORRECTIONS
        if self._closed or (full and now - self._times[0] < FIGHT_SECONDS):
            self._closed = True
            return False
        self._times.append(now)
        return True
