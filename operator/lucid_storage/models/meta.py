"""Names that clients, manifests and documentation rely on. They do not change within v1alpha1."""

from __future__ import annotations

GROUP = "storage.lucid-blockchain.org"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "lucid"

ANNOTATION_PREFIX = f"{GROUP}/"
"""Only annotations of our own group are kept in memory."""

FINALIZER = f"{GROUP}/cleanup"
"""Set only where a deletion has work to do: `deletionPolicy: Delete`, or a worker that must be ended."""

CONFIRM_DELETE = f"{GROUP}/confirm-delete"
"""Annotation: its value must be the target before adopted data is dropped."""

PAUSED = f"{GROUP}/paused"
"""Annotation: "true" stops all writes to the store."""

RUN_AGAIN = f"{GROUP}/run-again"
"""Annotation of a Restore: a new value asks for another run."""

SCHEDULE = f"{GROUP}/schedule"
"""Annotation of a Backup: the schedule that made it."""

SLOT = f"{GROUP}/slot"
"""Annotation of a Backup that a schedule made: the time that it was made for, RFC 3339."""

RETENTION = f"{GROUP}/retention"
"""Annotation of the same Backup: the retention of its schedule as JSON, for its manifest."""

PROTECTS = f"{GROUP}/protects"
"""Annotation of a Backup that backupBefore asked for: the UID of whom it protects."""

SLICING = f"{GROUP}/slicing"
"""Annotation of the same Backup, "true" where a slicing worker runs for its chain."""

OWNER_KIND_LABEL = f"{GROUP}/owner-kind"
OWNER_NAMESPACE_LABEL = f"{GROUP}/owner-namespace"
OWNER_UID_LABEL = f"{GROUP}/owner-uid"
"""Labels of a Job and its pod: the resource that the work is done for. A sweep removes Jobs whose owner is gone."""

OWNER_NAME = f"{GROUP}/owner-name"
"""Annotation of the same Job: a resource's name may be longer than a label's value."""

CREATED_FOR = f"{GROUP}/created-for"
"""Annotation of a claim: UID of the Volume that made it, the proof that deletionPolicy Delete needs."""

GROWN_TO = f"{GROUP}/grown-to"
"""Annotation of a claim: the last size that the operator asked for, so that a smaller spec.size is no shrinking."""

VERIFY = f"{GROUP}/verify"
"""Annotation of a Volume: a new value asks for a check of its content."""

RESTORED_FROM = f"{GROUP}/restored-from"
"""Annotation of a claim that a Restore made: id of the backup."""

RESTORED_BY = f"{GROUP}/restored-by"
"""Annotation of the same claim: the run that made it, and the volume as the backup names it."""

VOLUME_LABEL = f"{GROUP}/volume"
VOLUME_TYPE_LABEL = f"{GROUP}/volume-type"
"""Labels of a claim that was made for a Volume."""

ACCEPT_SHARD_KEY = f"{GROUP}/accept-shard-key"
"""Annotation of a ShardedCollection: the key, as its status shows it, that is wanted although the pre-flight found it
poor."""

BACKED_UP_AT = f"{GROUP}/backed-up-at"
"""Annotation of a ShardedCollection: when a backup made by other means began, RFC 3339; it ends BackupNeeded."""

MIGRATION = f"{GROUP}/migration"
"""Annotation of both PersistentVolumes of a migration: its journal as JSON. Of a claim that is replaced: its run."""

MIGRATION_CLAIM_LABEL = f"{GROUP}/migration-of"
"""Label of the same PersistentVolumes: a digest of the claim's namespace and name, to find them by."""

MIGRATION_FINALIZER = f"{GROUP}/migration"
"""Keeps a claim's name taken, while it is replaced, until the new volume can take it."""

GIVE_UP_MIGRATION = f"{GROUP}/give-up-migration"
"""Annotation of a Volume: the run of a migration whose switch cannot go on; the claim gets its old volume back."""

RELEASE_OLD_VOLUME = f"{GROUP}/release-old-volume"
"""Annotation of a Volume: the name of the old PersistentVolume that may go after a migration."""

SECRET_ALLOWED_LABEL = f"{GROUP}/allowed"
"""Label that a Secret must carry with the value "true" before a resource may use it."""

RESERVED_PREFIXES = ("lucid_stg_", "lucid_old_")
"""Collections that a restore stages or moves aside; no resource may claim such a name."""

RESERVED_DATABASES = ("admin", "local", "config")
"""MongoDB's own databases."""
