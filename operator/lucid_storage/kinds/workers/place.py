"""Where a backup lies: what the spec says and what the settings say, made one. Pure.

The operator's credentials for a bucket stay in its own namespace and reach its own bucket only; a claim can be mounted
only beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from lucid_storage.errors import NotAllowedError, Reason, RefusedError
from lucid_storage.models.meta import SECRET_ALLOWED_LABEL
from lucid_storage.models.orders import Destination
from lucid_storage.models.settings import Settings
from lucid_storage.models.storage import S3Storage, Storage, VolumeStorage


@dataclass(frozen=True, slots=True)
class Place:
    """A destination, and whose credentials open it."""

    destination: Destination
    secret: str | None = None
    """Secret with the bucket's keys, in the resource's namespace; None with a bucket means the operator's keys."""
    claim: str | None = None
    """PersistentVolumeClaim in the Job's namespace."""
    shared: bool = False
    """The operator's own place: whoever opens it could read the backups of other namespaces too."""

    @property
    def location(self) -> str:
        """For people."""
        if self.claim is not None:
            return "/".join(p for p in (f"volume {self.claim}", self.destination.root) if p)
        return "/".join(p for p in (f"s3://{self.destination.bucket}", self.destination.root) if p)


def resolve_place(
    storage: Storage | None, settings: Settings, namespace: str, connection: str | None
) -> Place:
    """`connection` is the Secret of the resource's own credentials. Raises RefusedError and NotAllowedError."""
    if storage is None:
        return _default(settings, namespace, connection)
    if storage.volume is not None:
        return _claim(storage.volume, settings, namespace, connection)
    assert storage.s3 is not None
    return _bucket(storage.s3, settings, namespace, connection)


def job_namespace(settings: Settings, namespace: str, connection: str | None) -> str:
    """Where a Job runs: beside the credentials that it uses."""
    return settings.operator_namespace if connection is None else namespace


def _default(settings: Settings, namespace: str, connection: str | None) -> Place:
    if connection is not None:
        raise NotAllowedError(
            "The operator's own place for backups is not used with credentials of the namespace's own; set"
            " spec.storage.",
            reason=Reason.NOT_CONFIGURED,
        )
    root = _joined(settings.backup_storage_path, _tenant_prefix(settings, namespace))
    if settings.backup_storage_type == "s3" and settings.backup_s3_bucket:
        return Place(_operators_bucket(settings, root), shared=True)
    if settings.backup_storage_type == "volume" and settings.backup_storage_claim:
        return Place(Destination(root=root), claim=settings.backup_storage_claim, shared=True)
    raise RefusedError(
        "No place for backups is configured: set spec.storage, or BACKUP_STORAGE_TYPE with BACKUP_S3_BUCKET or"
        " BACKUP_STORAGE_CLAIM in the operator's settings.",
        reason=Reason.NOT_CONFIGURED,
    )


def _claim(volume: VolumeStorage, settings: Settings, namespace: str, connection: str | None) -> Place:
    if job_namespace(settings, namespace, connection) != namespace:
        raise NotAllowedError(
            f'The claim "{volume.claim_name}" can be mounted in this namespace only, and the operator\'s credentials'
            " stay in the operator's. Name a Secret with the label"
            f' {SECRET_ALLOWED_LABEL}: "true" in spec.connection.secretName, or use a bucket.',
            reason=Reason.INVALID_SPEC,
        )
    return Place(Destination(root=volume.path or ""), claim=volume.claim_name)


def _bucket(s3: S3Storage, settings: Settings, namespace: str, connection: str | None) -> Place:
    if s3.secret_name is not None:
        destination = Destination(
            bucket=s3.bucket, endpoint=s3.endpoint, region=s3.region, root=_joined(s3.prefix or "")
        )
        return Place(destination, secret=s3.secret_name)
    own = settings.backup_s3_bucket == s3.bucket and _same_endpoint(s3.endpoint, settings.backup_s3_endpoint)
    if connection is not None or not own:
        raise NotAllowedError(
            f'The bucket "{s3.bucket}" needs keys: name a Secret of this namespace with the label'
            f' {SECRET_ALLOWED_LABEL}: "true" in spec.storage.s3.secretName. The operator\'s own keys open its own'
            " bucket only.",
            reason=Reason.NAMESPACE_NOT_SERVED,
        )
    prefix = _joined(settings.backup_storage_path, _tenant_prefix(settings, namespace))
    if s3.prefix:
        # Below the namespace's own folder, since a prefix of its choice could lead into somebody else's.
        prefix = _joined(prefix, namespace, s3.prefix)
    return Place(_operators_bucket(settings, prefix), shared=True)


def _operators_bucket(settings: Settings, root: str) -> Destination:
    return Destination(
        bucket=settings.backup_s3_bucket,
        endpoint=settings.backup_s3_endpoint,
        region=settings.backup_s3_region,
        root=root,
    )


def _tenant_prefix(settings: Settings, namespace: str) -> str:
    served = settings.served(namespace)
    if served is None:
        raise NotAllowedError(
            f'The operator\'s own place for backups does not serve the namespace "{namespace}": set spec.storage with'
            " keys of your own."
        )
    return served.bucket_prefix


def _same_endpoint(given: str | None, configured: str | None) -> bool:
    return given is None or given.rstrip("/") == (configured or "").rstrip("/")


def _joined(*parts: str) -> str:
    return "/".join(p.strip("/") for p in parts if p.strip("/"))
