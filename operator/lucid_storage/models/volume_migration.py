"""Migration of a Volume to another claim: its journal in status."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from lucid_storage.models.base import Count, ShortText, StatusModel


class MigrationStep(StrEnum):
    """Where a migration stands. From Switching on it only goes forward."""

    PREPARING = "Preparing"
    COPYING = "Copying"
    VERIFYING = "Verifying"
    SWITCHING = "Switching"
    COMPLETED = "Completed"
    FAILED = "Failed"


class Migration(StatusModel):
    """The journal of a migration; the same is on both volumes."""

    run: ShortText
    """Id of the run."""
    step: MigrationStep
    """Where it stands."""
    old_volume: ShortText | None = None
    """The PersistentVolume that the claim had."""
    new_volume: ShortText | None = None
    """The PersistentVolume that it gets."""
    new_claim: ShortText | None = None
    """The claim that the copy is written to."""
    old_reclaim_policy: ShortText | None = None
    """What the old volume's policy was."""
    new_reclaim_policy: ShortText | None = None
    """What the new volume's policy will be again."""
    job_name: ShortText | None = None
    """The Job that copies."""
    progress: ShortText | None = None
    """Percent copied."""
    copied_bytes: Count | None = None
    """Bytes copied and checked."""
    owners_kept: bool | None = None
    """Whether all owners could be set."""
    owners_not_kept: Count | None = None
    """Files and folders whose owner could not be set."""
    attributes_not_kept: Count | None = None
    """Files and folders whose capabilities or access lists could not be set."""
    top_mode_kept: bool | None = None
    """Whether the new volume's top folder lets in whom the old one's did."""
    skipped: Count | None = None
    """Sockets and device nodes, which are left out."""
    why: ShortText | None = None
    """Why the volume is moved."""
    old_claim_uid: ShortText | None = None
    """UID of the claim that is replaced."""
    storage_class_name: ShortText | None = None
    """The class that it moves to."""
    size: ShortText | None = None
    """The size that it gets."""
    stamp: ShortText | None = None
    """Of the old volume when it was copied; it changes with every change of a file."""
    checksum: ShortText | None = None
    """Of the copy's names, contents, modes and times."""
    looked_at: datetime | None = None
    """When a worker last looked at the old volume; absent when pods used the claim since."""
    settled: bool | None = None
    """The copy was compared after nobody could write to the old volume any more."""
    attempts: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Workers in a row that gave no copy and came no further than one before them."""
    reached: Annotated[int, Field(ge=0, le=200)] | None = None
    """How far the best worker came, in percent; beyond 100 the copy is being compared."""
    failed_generation: Count | None = None
    """Generation of the Volume whose migration failed; another one begins a new attempt."""
    run_again: ShortText | None = None
    """Value of the annotation run-again when it failed; another one begins a new attempt."""
    cleaned: bool | None = None
    """Nothing of a failed migration is left."""
    reason: ShortText | None = None
    """Why it failed."""
    message: Annotated[str, StringConstraints(max_length=1024)] | None = None
    """Why it failed, and what to do."""
    started_at: datetime | None = None
    """When it began."""
    completed_at: datetime | None = None
    """When it ended."""
