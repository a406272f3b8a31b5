"""Steps towards the declaration, with the differences that call for them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from lucid_storage.kinds import drift
from lucid_storage.kinds.contract import Action
from lucid_storage.kinds.index_elasticsearch.actions import UpdateAliases
from lucid_storage.models.base import DriftEntry

FIELD_LIMIT = 256


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which the server differs from the declaration."""

    field: str
    expected: object
    actual: object


@dataclass(frozen=True, slots=True)
class Step:
    """One action and why. `upkeep` is what time brings (a new month, an index that joined): never drift."""

    action: Action
    differences: tuple[Difference, ...]
    upkeep: bool = False


def actions(steps: Iterable[Step]) -> tuple[Action, ...]:
    """The actions in order; all changes of aliases become one, in the place of the last of them."""
    found = [step.action for step in steps]
    aliases = [action for action in found if isinstance(action, UpdateAliases)]
    if len(aliases) < 2:
        return tuple(found)
    joined = UpdateAliases(aliases[0].stem, tuple(change for action in aliases for change in action.changes))
    return tuple(
        joined if action is aliases[-1] else action for action in found if action not in aliases[:-1]
    )


def entries(steps: Sequence[Step], now: datetime) -> tuple[DriftEntry, ...]:
    """What is drift in them."""
    return tuple(entry(d, now) for step in steps if not step.upkeep for d in step.differences)


def entry(difference: Difference, now: datetime) -> DriftEntry:
    return drift.entry(difference.field[:FIELD_LIMIT], difference.expected, difference.actual, now)
