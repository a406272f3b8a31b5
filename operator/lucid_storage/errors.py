"""Errors that carry the condition's reason: the one vocabulary between stores, kinds and status.

Adapters turn driver errors into these at their border; the engine turns them into conditions. The message is
the sentence a person reads in `kubectl describe`; it names what to do and never holds a secret or a user's value.
"""

from __future__ import annotations

from enum import StrEnum

OUTAGE_GRACE_SECONDS = 5.0
"""How long a store may be away before resources that were Ready say so: an election is no news."""


class Reason(StrEnum):
    """Why a condition has its status. Documented in docs/conditions.md, which is generated from this enum."""

    def __new__(cls, value: str, doc: str) -> Reason:
        member = str.__new__(cls, value)
        member._value_ = value
        member.__doc__ = doc
        return member

    # Going well
    RECONCILED = "Reconciled", "The server matches the declaration."
    PROGRESSING = "Progressing", "Work is under way; the message says which."
    BUILDING = "Building", "An index build is running on the server."
    REPLACING = (
        "Replacing",
        "A new index is ready or building beside the old one, which is dropped afterwards.",
    )
    IN_SYNC = "InSync", "No difference between declaration and server."
    PAUSED = "Paused", "The annotation storage.lucid-blockchain.org/paused stops all writes."
    DELETING = "Deleting", "The resource is being deleted; the message says what happens to the data."

    # The declaration
    INVALID_SPEC = "InvalidSpec", "The declaration cannot be used; change it as the message says."
    TARGET_CHANGED = (
        "TargetChanged",
        "A setting or field now points at another target than the one pinned in status.",
    )
    CONFLICT = "Conflict", "Another resource owns the same real object."
    NOT_IN_PLACE = "NotInPlace", "The server cannot make this change in place; the message says how to do it."
    DATA_LOSS_REFUSED = (
        "DataLossRefused",
        "The change would lose data; allowDataLoss must name the target first.",
    )
    BACKUP_UNAVAILABLE = "BackupUnavailable", "backupBefore is asked for, and no backup can be made."
    NOT_IMPLEMENTED = "NotImplemented", "This version of the operator does not reconcile this yet."
    DATABASE_NOT_ALLOWED = "DatabaseNotAllowed", "The namespace may not use this database."
    INDEX_NOT_ALLOWED = "IndexNotAllowed", "The namespace may not use Elasticsearch indices of this name."
    KEYS_NOT_ALLOWED = "KeysNotAllowed", "The namespace may not use Redis keys of this pattern."

    # The server's answer
    SERVER_REFUSED = "ServerRefused", "The server refused the definition; the message holds its words."
    NOT_SUPPORTED = "NotSupported", "The server's version or kind cannot do this."
    NOT_SHARDED = "NotSharded", "The server is no router of a sharded cluster, so nothing can be sharded."
    DUPLICATE_KEYS = "DuplicateKeys", "Documents with equal keys stand in the way of a unique index."
    INDEX_CONFLICT = "IndexConflict", "An index that no resource declares stands in the way."
    UNHEALTHY = "Unhealthy", "The store answers, but part of the data cannot be used; the message says which."
    MAPPING_CONFLICT = "MappingConflict", "The mapping change needs a reindex."
    COLLECTION_NOT_READY = "CollectionNotReady", "The collection that the resource is about is not there yet."

    # Shard keys
    RESHARDING = "Resharding", "The server is writing the collection anew by another shard key."
    KEY_DIFFERS = "KeyDiffers", "The collection is sharded by another key, or in another way, than declared."
    NOT_SHARDABLE = "NotShardable", "MongoDB cannot shard a collection of this kind."
    SUPPORTING_INDEX_MISSING = "SupportingIndexMissing", "The shard key needs an index that begins with it."
    POOR_SHARD_KEY = "PoorShardKey", "The pre-flight found the key poor; an annotation can accept it."
    SHARD_KEY_UNKNOWN = (
        "ShardKeyUnknown",
        "The pre-flight could not read enough of the documents; an annotation can accept the key unseen.",
    )
    SHARD_UNKNOWN = "ShardUnknown", "A zone names a shard that the cluster does not have."
    SHARD_KEY_CHANGED = "ShardKeyChanged", "The shard key changed after the last known backup."

    # Drift
    DRIFT_DETECTED = "DriftDetected", "The server differs from the declaration."
    DRIFT_FIGHT = "DriftFight", "Somebody else keeps changing the object back; writes are stopped."

    # Backups and restores
    COMPLETED = "Completed", "The work was done, and the asked-for check passed."
    QUEUED = "Queued", "The work waits for another backup or restore of the same deployment."
    RUNNING = "Running", "The worker is at work."
    VERIFYING = "Verifying", "The backup is written and is being checked."
    CANCELLED = "Cancelled", "The work was stopped because spec.cancel was set; what was uploaded is removed."
    EXPIRED = "Expired", "Retention has passed; the data are removed and the object stays."
    PARTIALLY_FAILED = (
        "PartiallyFailed",
        "Part of it was backed up or restored and part was not; the message says which.",
    )
    WORKER_LOST = "WorkerLost", "The worker ended without a result; nothing of it counts."
    DEADLINE_EXCEEDED = "DeadlineExceeded", "The work took longer than its deadline and was stopped."
    DESTINATION_UNAVAILABLE = (
        "DestinationUnavailable",
        "The place where backups lie cannot be reached or refused; the message says what to do.",
    )
    DESTINATION_FULL = "DestinationFull", "The place where backups lie has no room left."
    ARCHIVE_DAMAGED = "ArchiveDamaged", "What lies in the destination is not what was written."
    KEY_MISSING = "KeyMissing", "The key that the data need is not in the Secret, or is another one."
    VERIFY_FAILED = "VerifyFailed", "The check of a backup failed; its data are kept and it is never a base."
    VERIFIED = "Verified", "The asked-for check passed."
    NO_VERIFY_SERVER = (
        "NoVerifyServer",
        "Not all of it was restored for the proof: no server is configured (BACKUP_VERIFY_URI) or fit, or there is none"
        " for an engine; the message says which.",
    )
    SNAPSHOT_ONLY = (
        "SnapshotOnly",
        "Data lie in snapshots, inside the cluster or in the store's own repository, that nobody read back.",
    )
    NO_OPLOG = (
        "NoOplog",
        "The server is a standalone one; start it as a replica set, of one member if need be.",
    )
    SHARDED_UNSUPPORTED = (
        "ShardedUnsupported",
        "Sharded deployments are not backed up; the message says what to use.",
    )
    OPLOG_GAP = (
        "OplogGap",
        "The oplog does not go on from the last backup: too short, or another history; the next full begins anew.",
    )
    NO_BASE = "NoBase", "There is no good full backup that this one could build on."
    CHAIN_MISMATCH = "ChainMismatch", "The chain was begun with another server, destination or selection."
    DDL_DURING_DUMP = (
        "DDLDuringDump",
        "Collections were changed twice while they were dumped; try again later.",
    )
    SNAPSHOT_PARTIAL = "SnapshotPartial", "The Elasticsearch snapshot does not hold all shards."
    TARGET_NOT_EMPTY = "TargetNotEmpty", "The restore would replace data; dropExisting must allow it."
    NOT_ENOUGH_SPACE = "NotEnoughSpace", "A member has too little free space for the restore."
    SPACE_UNKNOWN = (
        "SpaceUnknown",
        "The free space of a member cannot be read; allowUnknownSpace must allow it.",
    )
    RESTORE_BLOCKED = "RestoreBlocked", "The restore cannot reach what was asked for; status.plan says why."
    ALREADY_RESTORED = "AlreadyRestored", "This restore was done before; nothing was written."
    RUN_AGAIN_NEEDED = (
        "RunAgainNeeded",
        "It was done before by its marker; the annotation run-again asks for another.",
    )
    REPLAY_REFUSED = "ReplayRefused", "The oplog holds an operation that a restore does not replay."
    COUNT_MISMATCH = (
        "CountMismatch",
        "What was loaded is not what the manifest holds; with Staged the target is untouched.",
    )
    CONTENT_REFUSED = (
        "ContentRefused",
        "The server does not take back a document or a definition of the backup; the message says which.",
    )
    PLANNED = "Planned", "The plan is in status; nothing was written (dryRun)."
    SCHEDULED = "Scheduled", "The schedule runs; the message says when next."
    SUSPENDED = "Suspended", "The schedule is suspended; no new backups are made."

    # Volumes
    PROVISIONING = "Provisioning", "The volume is being made."
    WAITING_FOR_POD = "WaitingForPod", "The class makes the volume when a first pod mounts the claim."
    EXPANDING = "Expanding", "The volume is being expanded."
    EXPANSION_FAILED = "ExpansionFailed", "The storage driver could not expand the volume."
    EXPANDABLE = "Expandable", "The storage class can expand the volume in place."
    NOT_EXPANDABLE = "NotExpandable", "The storage class cannot expand the volume in place."
    CLASS_NOT_FOUND = "ClassNotFound", "There is no storage class of this name."
    QUOTA_EXCEEDED = "QuotaExceeded", "The namespace's ResourceQuota leaves no room for it."
    CLAIM_MISSING = "ClaimMissing", "There is no claim of this name to read or fill."
    CLAIM_NOT_BOUND = "ClaimNotBound", "The claim has no volume yet, so there is nothing to read or to fill."
    CLAIM_LOST = "ClaimLost", "Somebody deleted the claim; it is not made again empty."
    CLAIM_REPLACED = "ClaimReplaced", "Another claim has the name; the one that was declared is gone."
    CLAIM_TERMINATING = "ClaimTerminating", "Somebody deleted the claim; it goes when no pod uses it."
    CLAIM_IN_USE = "ClaimInUse", "A pod uses the claim; the message names it."
    VOLUME_LOST = "VolumeLost", "The PersistentVolume behind the claim is gone."
    NODE_AWAY = "NodeAway", "The node that the volume lies on or is attached to does not answer."
    INTACT = "Intact", "All changes of the content since the last check were written by somebody."
    CONTENT_DAMAGED = "ContentDamaged", "Files changed without being written, or cannot be read."
    CHECKED = "Checked", "The check that was asked for last came to its end."
    CHECK_FAILED = "CheckFailed", "The check that was asked for came to nothing; it is tried again."
    USAGE_KNOWN = "UsageKnown", "There are fresh figures of the volume's use, or no pod can change it."
    USAGE_UNKNOWN = (
        "UsageUnknown",
        "Nobody tells the use of the volume, so thresholds and autoExpand do nothing.",
    )
    USAGE_NORMAL = "UsageNormal", "The use of the volume is below the threshold."
    USAGE_HIGH = "UsageHigh", "The use of the volume is at or above the threshold."
    MAX_SIZE_REACHED = "MaxSizeReached", "autoExpand stopped, since its largest size is reached."
    MIGRATING = "Migrating", "The volume is being moved to a new one; the message says how far."
    CONTENT_CHANGED = "ContentChanged", "The files changed while they were copied."
    COPY_FAILED = "CopyFailed", "The file system refused the copy; the message holds its words."
    OWNERS_KEPT = "OwnersKept", "All files of the new volume have the owners that they had."
    ATTRIBUTES_KEPT = "AttributesKept", "All files of the new volume have the attributes that they had."
    ATTRIBUTES_NOT_KEPT = "AttributesNotKept", "Capabilities or access lists of files could not be set."
    OWNERS_NOT_KEPT = (
        "OwnersNotKept",
        "Files of the new volume have other owners, or its top folder another mode.",
    )
    OLD_VOLUME_KEPT = "OldVolumeKept", "The volume that was migrated from is kept until it is released."

    # Reaching the store
    STORE_UNAVAILABLE = (
        "StoreUnavailable",
        "The store cannot be reached now; the operator tries again by itself.",
    )
    LOGIN_FAILED = "LoginFailed", "The store refused the login."
    ACCESS_DENIED = "AccessDenied", "The login lacks a privilege; the message names it."
    NOT_CONFIGURED = "NotConfigured", "No connection to this kind of store is configured."
    NAMESPACE_NOT_SERVED = "NamespaceNotServed", "The operator's own credentials do not serve this namespace."
    SECRET_NOT_FOUND = "SecretNotFound", "The Secret named in spec.connection does not exist."
    SECRET_NOT_ALLOWED = "SecretNotAllowed", "The Secret lacks the label that allows its use."
    SECRET_INVALID = "SecretInvalid", "The Secret does not hold a usable connection."
    ENDPOINT_REFUSED = "EndpointRefused", "The operator does not dial this kind of address."
    INTERNAL_ERROR = "InternalError", "A defect of the operator; its log has the details."


class LucidError(Exception):
    """Base of all errors that become a condition.

    `stalled` says that somebody must change something. It is tried again all the same, with back-off and a cap: what
    stands in the way may be outside the resource.
    """

    reason: Reason = Reason.INTERNAL_ERROR
    stalled: bool = True

    def __init__(self, message: str, *, reason: Reason | None = None) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason


class StoreUnavailableError(LucidError):
    """The store did not answer, or has no primary now. Retried with back-off."""

    reason = Reason.STORE_UNAVAILABLE
    stalled = False
    everywhere: bool = True
    """False when only this operation could not be done now (a lock, a conflict): the store answers others."""
    down_seconds: float = 0.0
    """How long the store had been away when this was raised."""

    @property
    def grace_seconds(self) -> float:
        """For how long yet a resource that was Ready need not say so; not above 0 when that time is over."""
        return OUTAGE_GRACE_SECONDS - self.down_seconds


class LoginFailedError(LucidError):
    """The store refused the login. Retried with back-off, since a password may be about to be rotated."""

    reason = Reason.LOGIN_FAILED
    stalled = False


class AccessDeniedError(LucidError):
    """The login lacks a privilege. Retried with back-off: the privilege may be granted later."""

    reason = Reason.ACCESS_DENIED
    stalled = False


class ServerRefusedError(LucidError):
    """The server refused the definition itself; the same request would be refused again."""

    reason = Reason.SERVER_REFUSED


class NotSupportedError(LucidError):
    """The server's version, topology or build cannot do this."""

    reason = Reason.NOT_SUPPORTED


class NotShardedError(NotSupportedError):
    """The server is a replica set or a standalone; only the router of a sharded cluster shards."""

    reason = Reason.NOT_SHARDED


class DuplicateKeysError(ServerRefusedError):
    """A unique index cannot be built over the documents there are."""

    reason = Reason.DUPLICATE_KEYS


class IndexConflictError(ServerRefusedError):
    """An equal or incompatible index exists under another name or definition."""

    reason = Reason.INDEX_CONFLICT


class RefusedError(LucidError):
    """The operator itself refuses; the reason is given by the caller."""


class NotAllowedError(LucidError):
    """Tenancy: the namespace may not use this store, Secret, database or address."""

    reason = Reason.NAMESPACE_NOT_SERVED
    stalled = True


class DestinationError(LucidError):
    """The place where backups lie refused, and will again until somebody changes something."""

    reason = Reason.DESTINATION_UNAVAILABLE


class DestinationUnavailableError(DestinationError):
    """The place where backups lie cannot be reached, or fails, now."""

    stalled = False


class DestinationFullError(DestinationError):
    """The place where backups lie has no room left."""

    reason = Reason.DESTINATION_FULL


class ArchiveDamagedError(LucidError):
    """What lies in the destination is not what was written."""

    reason = Reason.ARCHIVE_DAMAGED


class KeyMissingError(LucidError):
    """An encryption key is not there, is no key, or is another one than recorded."""

    reason = Reason.KEY_MISSING


class LeadershipLostError(Exception):
    """The lease is not certain, so this process may no longer act. Never becomes a condition."""
