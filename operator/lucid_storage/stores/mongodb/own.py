"""Which events of a change stream are echoes of our own commands."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from bson.timestamp import Timestamp

from lucid_storage.stores.mongodb.types import DdlEvent

ANSWER_SECONDS = 0.25
"""How long an event waits for the answer to a command that it may be the echo of: they come at about the same time."""
KEPT = 4096
CREATE, CREATE_INDEXES, MODIFY = "create", "createIndexes", "modify"


class Change(NamedTuple):
    """One change of a definition, as an event names it."""

    operation: str
    database: str
    collection: str
    index_name: str | None = None


class OwnChanges:
    """What this process changed, and when by the server's clock.

    An event has the time of its entry in the oplog (`clusterTime`), the answer to the command that wrote the entry
    has it too (`operationTime`). That of createIndexes may be later, since the server lets it wait for what others
    build; an index of that name made before is the same index, or the command would have failed. Where the times do
    not tell (a mongos), an echo counts as a change by others: a look too many, never one too few.
    """

    def __init__(self) -> None:
        self._running: Counter[Change] = Counter()
        self._answered = asyncio.Event()
        self._times: OrderedDict[Change, tuple[int, int]] = OrderedDict()

    @contextmanager
    def making(self, change: Change) -> Iterator[Callable[[Mapping[str, object]], None]]:
        """Around the command; what it gives is to be called with the server's answer."""
        self._running[change] += 1
        try:
            yield lambda answer: self._note(change, answer)
        finally:
            self._running[change] -= 1
            if not self._running[change]:
                del self._running[change]
            answered, self._answered = self._answered, asyncio.Event()
            answered.set()

    async def marked(self, event: DdlEvent) -> DdlEvent:
        """The event, with `own` where it is an echo."""
        change = _change(event)
        if change is None:
            return event
        if change in self._running:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._end(change), ANSWER_SECONDS)
        made = self._times.get(change)
        if made is None or event.at is None:
            return event
        own = event.at <= made if change.operation == CREATE_INDEXES else event.at == made
        return replace(event, own=own)

    async def _end(self, change: Change) -> None:
        while change in self._running:
            await self._answered.wait()

    def _note(self, change: Change, answer: Mapping[str, object]) -> None:
        made = moment(answer.get("operationTime"))
        if made is None:
            return
        self._times[change] = made
        self._times.move_to_end(change)
        while len(self._times) > KEPT:
            self._times.popitem(last=False)


def moment(value: object) -> tuple[int, int] | None:
    """A time of the server's logical clock."""
    return (value.time, value.inc) if isinstance(value, Timestamp) else None


def _change(event: DdlEvent) -> Change | None:
    if event.collection is None or event.operation not in (CREATE, CREATE_INDEXES, MODIFY):
        return None
    if event.operation != CREATE_INDEXES:
        return Change(event.operation, event.database, event.collection)
    if len(event.index_names) != 1:
        return None
    return Change(event.operation, event.database, event.collection, event.index_names[0])
