"""What is known of the checks of a volume's content."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import StringConstraints

from lucid_storage.models.base import Count, ShortText, StatusModel


class ContentCheck(StatusModel):
    """The last check of the content against the checksums of the one before."""

    asked: ShortText
    """Value of the annotation that asked for it."""
    at: datetime
    """When it ended."""
    since: datetime | None = None
    """When the checksums were made that it compared with; absent for the first check."""
    intact: bool
    """No file changed without being written, and all can be read."""
    files: Count
    """Files of the volume."""
    added: Count
    """Files and folders that were not there before."""
    removed: Count
    """Files and folders that are gone."""
    changed: Count
    """Files and folders that somebody changed."""
    corrupted: Count
    """Files that changed although nobody wrote them."""
    unreadable: Count
    """Files that the disk does not give."""
    last_change: datetime | None = None
    """The newest time of modification among what was added or changed."""
    message: Annotated[str, StringConstraints(max_length=1024)]
    """The same in a sentence."""


class FailedCheck(StatusModel):
    """A check of the content that was asked for and came to nothing. It is tried again."""

    asked: ShortText
    """Value of the annotation that asked for it."""
    at: datetime
    """When it came to nothing first, for this reason."""
    message: Annotated[str, StringConstraints(max_length=1024)]
    """Why, and what to do."""
