"""What the operator tells the slicing worker of a chain, and what that worker tells back while it runs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from lucid_storage.errors import Reason
from lucid_storage.models.backup import MongoSelection
from lucid_storage.models.orders import Message, Order


class SliceOrder(Order):
    """Write slices until told to stop. `deadline_seconds` bounds one slice."""

    interval_seconds: Annotated[int, Field(ge=60)] = 600
    server_identity: str | None = None
    """The MongoDB that the operator saw; the worker refuses another one."""
    database_patterns: tuple[str, ...] = ("*",)
    mongodb: MongoSelection | None = None


class SliceReport(Message):
    """Where the slicing worker stands; a JSON line `{"slicing": {...}}` on its standard output after each try."""

    ok: bool
    reason: Reason | None = None
    message: str = ""
    timeline: str | None = None
    """Without `to` nothing is written of it yet: it begins, or goes on, with the next slice."""
    closed: bool = False
    """The timeline ended with this slice: a full is needed at once."""
    to: datetime | None = None
    to_optime: str | None = None
    entries: int = 0
    stored_bytes: int = 0
    oplog_window_seconds: int | None = None
    written_at: datetime | None = None
