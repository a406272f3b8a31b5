"""What the operator tells a worker that measures, copies or checks a volume, and what that worker tells back."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, Field

from lucid_storage.errors import Reason
from lucid_storage.models.base import Count
from lucid_storage.models.orders import Message, Task


class VolumeUsageOrder(Task):
    """Say how much of a claim is in use. The claim is mounted read-only."""

    folder: str
    """Below LUCID_VOLUMES."""
    own_file_system: bool
    """The claim is a file system of its own (CSI, loop device, network). False for a folder of the node's disk (the
    class local-path), whose figures would be those of the disk: then the files are added up."""
    walk_seconds: Annotated[int, Field(ge=1, le=3600)] = 120
    """How long files may be added up."""


class VolumeUsageResult(Message):
    """The use of a claim."""

    run: str
    ok: bool
    reason: Reason | None = None
    message: str = ""
    used_bytes: int = 0
    capacity_bytes: int | None = None
    """None where the claim has no limit of its own."""
    available_bytes: int | None = None
    """What a process other than root can still write."""
    inodes_used: int = 0
    inodes: int | None = None
    complete: bool = True
    """False when adding up took too long: the figures are a lower bound."""
    taken_at: datetime | None = None


class VolumeCopyOrder(Task):
    """Make a claim's files a copy of another's, and prove it. The source is mounted read-only."""

    source: str
    """Folders below LUCID_VOLUMES."""
    target: str
    known_stamp: str | None = None
    """Of a source that was copied and compared before: while it is the same, there is nothing to do."""


class VolumeCopyResult(Message):
    """A copy that was compared with its source, byte by byte."""

    run: str
    ok: bool
    reason: Reason | None = None
    message: str = ""
    unchanged: bool = False
    """The source is as it was when it was copied; nothing was read but names and attributes."""
    files: int = 0
    entries: int = 0
    bytes: int = 0
    copied_bytes: int = 0
    """Less where an earlier worker had copied a part."""
    owners_not_kept: int = 0
    """Entries whose owner this worker may not set."""
    attributes_not_kept: int = 0
    """Entries with capabilities or access lists that this worker may not set."""
    top_mode_kept: bool = True
    """The new volume's top folder lets in whom the old one's did."""
    skipped: int = 0
    """Sockets and device nodes."""
    stamp: str | None = None
    """Changes with every change of the source, of attributes too."""
    digest: str | None = None
    """Of names, contents, modes and times."""


class VolumeVerifyOrder(Task):
    """Compare a claim's content with its last checksums. The claim is mounted writable: the list lies on it."""

    folder: str
    """Below LUCID_VOLUMES."""
    accept: bool = False
    """Take everything as it is now, files that rotted too."""


class VolumeVerifyResult(Message):
    """What a check of a claim's content found. Names of files are users' data and are not in it."""

    run: str
    ok: bool
    """Something was found out."""
    intact: bool = False
    """No file changed without being written, and all can be read."""
    reason: Reason | None = None
    message: str = ""
    files: Count = 0
    bytes: Count = 0
    added: Count = 0
    removed: Count = 0
    changed: Count = 0
    corrupted: Count = 0
    unreadable: Count = 0
    since: AwareDatetime | None = None
    """Moment of the checksums that it was compared with; None for the first ones."""
    last_change: AwareDatetime | None = None
    """The newest time of modification among what changed or was added."""
    checked_at: AwareDatetime | None = None
