"""Why a check says less than it was asked to."""

from __future__ import annotations

from dataclasses import dataclass

from lucid_storage.errors import Reason


@dataclass(frozen=True, slots=True)
class Note:
    """Of a check that passed: it is not of the level that was asked for, or not of all that the backup stands for."""

    reason: Reason
    message: str
