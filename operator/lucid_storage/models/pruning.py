"""What the operator tells a worker that removes data of backups, and what that worker tells back."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, Field

from lucid_storage.errors import Reason
from lucid_storage.models.orders import Message, Order


class PruneOrder(Order):
    """Remove data. The worker decides from the chain's manifests what nothing needs any more."""

    remove: tuple[str, ...] = ()
    """Ids of backups whose data go, unless a kept restore point needs them or they are the last good ones."""
    expire: tuple[str, ...] = ()
    """Ids of backups whose schedule is gone and whose days are over: their data go unless one of its rules, or a kept
    restore point, keeps them."""
    due: AwareDatetime | None = None
    """When the days of those ids were over by the operator's clock: a worker whose own clock is before that removes
    nothing, since one of the two is wrong. Their objects stay and their days can be raised, so no mark is left on what
    is needed still: the next attempt asks anew."""
    discard: tuple[str, ...] = ()
    """Ids of backups that were stopped: whatever lies in their folders goes."""
    sweep: bool = False
    """Apply retention to the whole chain, and remove what stopped workers left behind."""
    rules: dict[str, dict[str, int]] = Field(default_factory=dict)
    """For a sweep: the rules of each schedule that there is, as in its spec."""
    default_days: int = 30
    """For backups that do not say."""
    abandoned_seconds: Annotated[int, Field(ge=1)] = 86_400
    """An upload without a manifest is left over when nothing of it moved for so long: no worker lives longer."""
    time_zone: str = "Etc/UTC"
    """Of days, weeks and months."""
    by_hand: tuple[str, ...] = ()
    """Ids of backups made by hand whose objects are there: these say how long the data are kept, which can be changed,
    and neither the manifests nor a mark."""
    known: tuple[str, ...] = ()
    """Ids of backups that objects claim to have data; the answer names those that have none any more."""
    unrestorable: tuple[str, ...] = ()
    """Those of them whose objects say already that they cannot be restored any more."""
    silent: tuple[str, ...] = ()
    """Those of them whose objects claim nothing that could be taken back: nothing is said of them."""
    adopted: tuple[str, ...] = ()
    """Clusters whose backups are ours now (`catalog --adopt`)."""


class Retained(Message):
    """A backup whose data stay although no rule keeps them."""

    id: str
    because: str


class Span(Message):
    """Seconds of which each can be restored, both ends included."""

    first: datetime
    last: datetime


class ChainReport(Message):
    """A chain at one moment, short enough for a termination message."""

    timeline: str | None = None
    """The current one."""
    closed: bool = False
    """It ended with a restore or a rename: a full is needed at once."""
    based: bool = False
    """It has a good full."""
    recoverable: tuple[Span, ...] = ()
    """The newest spans."""
    verified_to: datetime | None = None
    """The newest second that good backups hold."""
    backups: int = 0
    slices: int = 0
    """Of the current timeline."""
    slice_bytes: int = 0
    """Of those."""
    stored_bytes: int = 0
    """Of everything in the chain."""
    last_slice_at: datetime | None = None
    last_slice_to: datetime | None = None
    """The second in which the last slice of the current timeline ends, a damaged one too."""
    unreadable: int = 0
    """Manifests that cannot be read or authenticated."""


class PruneResult(Message):
    """What a prune worker did."""

    run: str
    ok: bool
    reason: Reason | None = None
    message: str = ""
    removed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    """Of `removed` those that were to be removed and of which nothing was found in the first place."""
    expiry: bool = False
    """Their days were over, and that was all: nobody has to remember that what stays was to go."""
    retained: tuple[Retained, ...] = ()
    unrestorable: tuple[str, ...] = ()
    """Backups that are damaged, or stand on something damaged or gone, and whose objects do not say so yet."""
    restorable_again: tuple[str, ...] = ()
    """Those whose objects say so, and that can be restored from what lies there now."""
    more: bool = False
    """There is more to remove, or to tell, than one worker does."""
    chain: ChainReport | None = None
