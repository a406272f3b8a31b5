"""A manifest as it was found in a destination: what it says, whether that can be believed, and how it was proved.

Timelines, retention and restores decide over these. A slice needs no proof: the destination confirmed its size and
checksum before its manifest was written. It gets one when a check that reads it finds damage, and is a hole then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from lucid_storage.archive.manifest import BackupKind, Manifest, OplogPoint, Proof, ProofLevel


class Trust(StrEnum):
    """Whether a manifest can be believed (rule 1.8)."""

    AUTHENTICATED = "authenticated"
    """Its MAC was checked with a key of ours."""
    UNENCRYPTED = "unauthenticated"
    """Written without encryption, so that only its own checksum speaks for it."""
    KEY_MISSING = "keyMissing"
    """Its key is not among ours, or another key has its id."""
    BROKEN = "broken"
    """Its MAC or checksum is wrong."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One manifest with what is known about it."""

    manifest: Manifest
    trust: Trust = Trust.AUTHENTICATED
    proof: Proof | None = None

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def kind(self) -> BackupKind:
        return self.manifest.kind

    @property
    def readable(self) -> bool:
        """Whether what it says counts at all."""
        return self.trust in (Trust.AUTHENTICATED, Trust.UNENCRYPTED)

    @property
    def proved(self) -> bool:
        """Whether its check passed."""
        return self.proof is not None and self.proof.passed and self.proof.id == self.manifest.id

    @property
    def good(self) -> bool:
        """A base for others, and what "last good" means. A slice is good as long as no check found it damaged."""
        unjudged = self.kind is BackupKind.SLICE and self.proof is None
        return self.readable and (self.proved or unjudged)

    @property
    def level(self) -> ProofLevel | None:
        """How all that it stands for was proved; None when it was not. A store's own snapshot is read by a restore
        alone.
        """
        if self.proof is None or not self.proved:
            return None
        unread = self.manifest.repositories and self.proof.level is not ProofLevel.RESTORE
        return ProofLevel.UPLOAD if unread else self.proof.level

    @property
    def unread(self) -> bool:
        """All that it names lies in snapshots that nobody restored: what a disaster leaves of it is not known."""
        return self.manifest.snapshots_only and self.level is not ProofLevel.RESTORE

    @property
    def engines(self) -> frozenset[str]:
        """Those that are in it: of a backup that failed in part, fewer than were asked for."""
        return frozenset(record.engine for record in self.manifest.engines)

    @property
    def to(self) -> OplogPoint | None:
        """Where it ends in the oplog; None for a backup without MongoDB."""
        mongodb = self.manifest.mongodb
        return mongodb.to if mongodb is not None else None

    @property
    def moment(self) -> tuple[int, int, datetime]:
        """Sorts backups of one chain by what they hold."""
        end = self.to
        if end is None:
            return (int(self.manifest.completed_at.timestamp()), 0, self.manifest.completed_at)
        return (end.optime.seconds, end.optime.counter, self.manifest.completed_at)


def of_kind(records: Iterable[Recorded], *kinds: BackupKind) -> list[Recorded]:
    """Those of the given kinds, the oldest first."""
    return sorted((r for r in records if r.kind in kinds), key=lambda r: r.moment)


def good_fulls(records: Iterable[Recorded]) -> list[Recorded]:
    """Good fulls that hold MongoDB, the oldest first: what a restore to a moment can begin with."""
    return [r for r in of_kind(records, BackupKind.FULL) if r.good and r.to is not None]
