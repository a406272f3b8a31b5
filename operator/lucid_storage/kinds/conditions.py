"""Conditions in kstatus form. Pure: time is an argument.

Source of the form: the kstatus conventions (sigs.k8s.io/cli-utils, pkg/kstatus): Ready, Reconciling, Stalled, each
with observedGeneration; Reconciling and Stalled are present only when they are true or were.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from lucid_storage.errors import Reason
from lucid_storage.kinds.contract import Verdict
from lucid_storage.models.base import Condition, ConditionStatus

MESSAGE_LIMIT = 1024


def build(
    previous: Sequence[Condition],
    *,
    generation: int,
    now: datetime,
    verdict: Verdict | None,
    message: str,
    ready_reason: Reason = Reason.RECONCILED,
    extra: Iterable[tuple[str, bool, Reason, str]] = (),
) -> list[Condition]:
    """All conditions of a resource. `verdict` None means Ready. `extra` are (type, status, reason, message)."""
    ready = verdict is None
    reason = ready_reason if verdict is None else verdict.reason
    text = message if verdict is None else verdict.message
    stalled = verdict is not None and verdict.stalled
    rows: list[tuple[str, bool, str, str]] = [
        ("Ready", ready, reason, text),
        ("Reconciling", not ready and not stalled, reason, "" if ready or stalled else text),
        ("Stalled", stalled, reason, text if stalled else ""),
        *extra,
    ]
    before = {c.type: c for c in previous}
    return [
        _condition(before.get(kind), kind, on, why, said, generation, now) for kind, on, why, said in rows
    ]


def _condition(
    before: Condition | None, kind: str, on: bool, reason: str, message: str, generation: int, now: datetime
) -> Condition:
    status = ConditionStatus.TRUE if on else ConditionStatus.FALSE
    since = (
        before.last_transition_time
        if before is not None and before.status == status
        else now.replace(microsecond=0)
    )
    return Condition(
        type=kind,
        status=status,
        reason=str(reason),
        message=bounded(message),
        last_transition_time=since,
        observed_generation=generation,
    )


def bounded(message: str) -> str:
    """The message as conditions and status have room for it."""
    return message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 1] + "…"
