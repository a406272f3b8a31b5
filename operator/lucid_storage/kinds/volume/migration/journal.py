"""What a migration must know to go on: in the Volume's status, and from the switch on also on both PersistentVolumes,
so that a lost status loses nothing. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from pydantic.alias_generators import to_camel

from lucid_storage.kube.volumes import MovingClaim, MovingVolume
from lucid_storage.models.meta import MIGRATION
from lucid_storage.models.quantity import to_text
from lucid_storage.models.volume_migration import Migration, MigrationStep

NAME_LIMIT = 63
"""Of a Job: its name becomes a label of its pod."""
POKED = f"{MIGRATION}-poked"
"""Annotation of a claim of ours: with each change the binder looks at it at once, else every 15 s
(kube-controller-manager, --pvclaimbinder-sync-period)."""
BINDERS = ("pv.kubernetes.io/", "volume.kubernetes.io/", "volume.beta.kubernetes.io/")
"""Annotations that Kubernetes writes when it binds a claim: a new claim gets its own."""


APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""Annotation with a second copy of the manifest; `kubectl apply` writes it anew."""
LONGEST = 64 * 1024
"""Bytes of a journal; Kubernetes permits 256 KiB for all annotations of an object."""
TOO_LONG = (
    f"The labels, annotations and owners of the claim are more than {LONGEST // 1024} KiB, which its volumes cannot"
    " carry while it is moved; remove the large annotations from the claim."
)


class Stage(StrEnum):
    """How far a volume's journal knows."""

    PREPARED = "Prepared"
    """Copied and compared; everything can still be taken back."""
    SWITCHING = "Switching"
    """Only forward."""
    RETURNING = "Returning"
    """Given up in the switch: only back to the old volume."""
    COMPLETED = "Completed"
    """On the old volume alone, until it is released."""


class Journal(BaseModel):
    """The annotation of both volumes."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    run: str
    stage: Stage
    namespace: str
    claim: str
    claim_uid: str
    old_volume: str
    new_volume: str
    old_policy: str
    new_policy: str
    class_name: str
    size: str
    old_size: str = ""
    """What the claim asked for."""
    stamp: str
    checksum: str = ""
    settled: bool = False
    owners_kept: bool = True
    owners_not_kept: int = 0
    attributes_not_kept: int = 0
    top_mode_kept: bool = True
    skipped: int = 0
    copied_bytes: int = 0
    why: str = ""
    started_at: datetime | None = None
    access_modes: tuple[str, ...]
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    owners: Sequence[Mapping[str, JsonValue]] = ()
    """ownerReferences of the claim."""

    def text(self) -> str:
        """As it is written; equal journals have equal texts."""
        return self.model_dump_json(by_alias=True, exclude_none=True)

    @property
    def too_long(self) -> bool:
        return len(self.text().encode()) > LONGEST


@dataclass(frozen=True, slots=True)
class Names:
    """Of everything that a run makes, computed so that a second attempt finds the first one's."""

    new_claim: str
    keeper: str
    """Claim that mounts the old volume once the old claim has let it go."""
    copy_job: str
    settle_job: str

    @property
    def claims(self) -> frozenset[str]:
        """That the migration makes."""
        return frozenset((self.new_claim, self.keeper))


def names(claim: str, run: str) -> Names:
    return Names(*(_name(claim, f"lucid-{part}-{run}") for part in ("new", "old", "copy", "settle")))


def _name(claim: str, suffix: str) -> str:
    return f"{claim[: NAME_LIMIT - len(suffix) - 1].rstrip('-.')}-{suffix}"


def run_id(claim_uid: str, volume: str, class_name: str, size: str) -> str:
    """The same claim on the same volume on its way to the same place is the same run."""
    return sha256("/".join((claim_uid, volume, class_name, size)).encode()).hexdigest()[:10]


def claim_digest(namespace: str, claim: str) -> str:
    """A label's value for any claim, whose own name may be longer than that."""
    return sha256(f"{namespace}/{claim}".encode()).hexdigest()[:40]


def journal_of(migration: Migration, claim: MovingClaim) -> Journal:
    """The journal of a migration that was copied and compared."""
    kept = {k: v for k, v in claim.annotations.items() if k != APPLIED and not k.startswith(BINDERS)}
    return Journal(
        run=migration.run,
        stage=Stage.PREPARED,
        namespace=claim.namespace,
        claim=claim.name,
        claim_uid=claim.uid,
        old_volume=migration.old_volume or "",
        new_volume=migration.new_volume or "",
        old_policy=migration.old_reclaim_policy or "Retain",
        new_policy=migration.new_reclaim_policy or "Retain",
        class_name=migration.storage_class_name or "",
        size=migration.size or "",
        old_size=to_text(claim.requested),
        stamp=migration.stamp or "",
        checksum=migration.checksum or "",
        owners_kept=migration.owners_kept is not False,
        owners_not_kept=migration.owners_not_kept or 0,
        attributes_not_kept=migration.attributes_not_kept or 0,
        top_mode_kept=migration.top_mode_kept is not False,
        skipped=migration.skipped or 0,
        copied_bytes=migration.copied_bytes or 0,
        why=migration.why or "",
        started_at=migration.started_at,
        access_modes=claim.access_modes,
        labels=claim.labels,
        annotations=kept,
        owners=claim.owners,
    )


def migration_of(journal: Journal) -> Migration:
    """The status of a migration whose status was lost, from a volume's journal."""
    step = MigrationStep.COMPLETED if journal.stage is Stage.COMPLETED else MigrationStep.SWITCHING
    return Migration(
        run=journal.run,
        step=step,
        old_volume=journal.old_volume,
        new_volume=journal.new_volume,
        new_claim=names(journal.claim, journal.run).new_claim,
        old_reclaim_policy=journal.old_policy,
        new_reclaim_policy=journal.new_policy,
        old_claim_uid=journal.claim_uid,
        storage_class_name=journal.class_name,
        size=journal.size,
        stamp=journal.stamp,
        checksum=journal.checksum or None,
        settled=journal.settled,
        owners_kept=journal.owners_kept,
        owners_not_kept=journal.owners_not_kept,
        attributes_not_kept=journal.attributes_not_kept,
        top_mode_kept=journal.top_mode_kept,
        skipped=journal.skipped,
        copied_bytes=journal.copied_bytes,
        why=journal.why or None,
        started_at=journal.started_at,
    )


def own_policy(volume: MovingVolume, namespace: str, claim: str) -> str:
    """The reclaim policy that a volume has when no migration keeps it."""
    book = on_volume(volume, namespace, claim)
    if book is None or book.stage is Stage.COMPLETED:
        return volume.policy
    return book.old_policy if volume.name == book.old_volume else book.new_policy


def on_volume(volume: MovingVolume | None, namespace: str, claim: str) -> Journal | None:
    """The journal that a volume carries; None where it carries none of this claim, or one that nobody can read."""
    if volume is None or volume.journal is None:
        return None
    try:
        journal = Journal.model_validate_json(volume.journal)
    except ValidationError:
        return None
    named = (journal.namespace, journal.claim) == (namespace, claim)
    return journal if named and volume.name in (journal.old_volume, journal.new_volume) else None
