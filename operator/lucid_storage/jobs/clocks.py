"""What time it is for a worker: its node's clock may be hours off, and so may the operator's.

What is removed by its age goes only when it is old enough by both; what is held, or announced as going, lasts as long
as either says, and what is written ended at the later of the two. So a wrong clock costs room in the destination, and
no backup.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from lucid_storage.models.orders import Task

CLOCKS: Final = timedelta(minutes=5)
"""That the clocks of two nodes may differ."""


def by_both(order: Task, now: datetime) -> datetime:
    """The moment that is past for the worker (`now`) and was past for the operator: for ages, and claims of others."""
    return now if order.ordered_at is None else min(now, order.ordered_at)


def by_either(order: Task, now: datetime, worked: timedelta = timedelta()) -> datetime:
    """The moment that is past for one of them at least: for how long a claim of ours lasts, and for what we write.

    `worked`: for so long this worker has been at work, by a clock that nobody sets.
    """
    return now if order.ordered_at is None else max(now, order.ordered_at + worked)
