"""The condition types and what they mean. Reasons are the enum in `lucid_storage.errors`."""

from __future__ import annotations

from collections.abc import Mapping

COMMON = ("Ready", "Reconciling", "Stalled")
"""Every kind has these, in the form that kstatus reads."""

CONDITIONS: Mapping[str, str] = {
    "Ready": "True when the declaration is carried out, or the work is done.",
    "Reconciling": "True while work is under way or will be tried again by itself.",
    "Stalled": "True when somebody must change something; the message says what.",
    "Drifted": "True while the server differs from the declaration.",
    "Paused": "True while the annotation `storage.lucid-blockchain.org/paused` stops all writes.",
    "BackupNeeded": "True after a refined or changed shard key, until a new full backup is there.",
    "Slicing": "True while the worker for restores to the second is running and up to date.",
    "OplogWindowLow": "True when the oplog holds less than twice the slicing interval.",
    "Complete": "True when the work ended well, as with a Job.",
    "Failed": "True when the work ended badly, as with a Job.",
    "Verified": "True when the backup was proved; reason and message say how and when.",
    "UsageWarning": "True when the use of the volume is at or above warningPercent.",
    "UsageCritical": "True when the use of the volume is at or above criticalPercent.",
    "UsageUnknown": "True when nobody tells the use of a volume that is in use; the message says what to set.",
    "Expandable": "Whether the storage class can expand the volume in place, and if not, why.",
    "Intact": "False when the last check found files that rotted or cannot be read; absent before the first one.",
    "ContentChecked": "False while a check of the content that was asked for comes to nothing.",
    "OwnersNotKept": "True when a migration could not keep the owners of all files, or the mode of the top folder.",
    "AttributesNotKept": "True when a migration could not keep all capabilities and access lists.",
    "OldVolumeKept": "True while the volume that was migrated from is kept; how to release it.",
}
