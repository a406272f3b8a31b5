"""What people are told of a look: the status with its conditions, and an Event when Ready changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Generic, cast

from lucid_storage.errors import Reason
from lucid_storage.kinds import conditions
from lucid_storage.kinds.contract import Notice, S, Verdict
from lucid_storage.kube.events import Event, EventRecorder
from lucid_storage.kube.resources import Resource
from lucid_storage.kube.status import StatusWriter

Row = tuple[str, bool, Reason, str]
"""A condition: type, status, reason, message."""


def no_own_conditions(status: object, known: Sequence[str]) -> list[Row]:
    """Of kinds that have only the common conditions."""
    return []


class Teller(Generic[S]):
    """Speaks for one kind. `remember` gets the resource and the resourceVersion of each write of a status.

    `own` makes the kind's own conditions from a status and the types that are there already.
    """

    def __init__(
        self,
        kind: str,
        status_type: type[S],
        *,
        status: StatusWriter,
        events: EventRecorder,
        remember: Callable[[Resource, str], None],
        now: Callable[[], datetime],
        own: Callable[[S, Sequence[str]], list[Row]] = no_own_conditions,
    ) -> None:
        self._kind = kind
        self._own = own
        self._status_type = status_type
        self._writer = status
        self._events = events
        self._remember = remember
        self._now = now

    async def write(self, resource: Resource, status: S, verdict: Verdict | None, message: str) -> None:
        """Write the status where it differs; `verdict` None means Ready. Raises KubeApiError."""
        before = self._status_type.model_validate(resource.status)  # type: ignore[attr-defined]
        previous = cast("S", before).conditions or []
        known = [c.type for c in previous]
        status.observed_generation = resource.generation
        status.message = conditions.bounded(message if verdict is None else verdict.message) or None
        status.drift = status.drift or None
        status.conditions = conditions.build(
            previous,
            generation=resource.generation,
            now=self._now(),
            verdict=verdict,
            message=message,
            extra=[*_extra_conditions(resource, status, known), *self._own(status, known)],
        )
        document = cast("dict[str, Any]", status.to_dict())
        version = await self._writer.write(resource, document)
        if version is not None:
            resource.status.clear()
            resource.status.update(document)
            self._remember(resource, version)
        self._announce(resource, verdict, {c.type: (c.status, c.reason) for c in previous})

    def emit(self, resource: Resource, notice: Notice) -> None:
        """An Event about the resource."""
        self._events.emit(
            Event(resource.key, self._kind, resource.uid, notice.reason, notice.message, notice.warning)
        )

    def _announce(
        self, resource: Resource, verdict: Verdict | None, before: dict[str, tuple[str, str]]
    ) -> None:
        """An Event when Ready or its reason changed, and on nothing else.

        What is Ready at once is what was asked for: the column says it, and thousands of Events would not say more.
        """
        now = ("True", str(Reason.RECONCILED)) if verdict is None else ("False", str(verdict.reason))
        known = before.get("Ready")
        if known == now or (known is None and verdict is None):
            return
        if verdict is None:
            self.emit(resource, Notice("Ready", "The server matches the declaration."))
        else:
            self.emit(resource, Notice(str(verdict.reason), verdict.message, warning=verdict.stalled))


def _extra_conditions(resource: Resource, status: S, known: Sequence[str]) -> list[Row]:
    fields = ", ".join(e.field for e in status.drift or ())
    reason = Reason.DRIFT_DETECTED if fields else Reason.IN_SYNC
    rows = [("Drifted", bool(fields), reason, f"The server differs in: {fields}." if fields else "")]
    paused = resource.paused
    if paused or "Paused" in known:
        said = "The annotation stops all writes; remove it to go on." if paused else ""
        rows.append(("Paused", paused, Reason.PAUSED if paused else Reason.IN_SYNC, said))
    return rows
