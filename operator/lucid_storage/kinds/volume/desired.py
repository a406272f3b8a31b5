"""What a Volume declares, with its defaults resolved and sizes in bytes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lucid_storage.errors import Reason, RefusedError
from lucid_storage.kinds import specs
from lucid_storage.kube.client import Json
from lucid_storage.kube.resources import Resource
from lucid_storage.models.base import DeletionPolicy
from lucid_storage.models.meta import CONFIRM_DELETE, CREATED_FOR, VOLUME_LABEL, VOLUME_TYPE_LABEL
from lucid_storage.models.quantity import to_bytes, to_text
from lucid_storage.models.settings import Settings
from lucid_storage.models.volume import AccessMode, CopyIdentity, ResizeStrategy, VolumeSpec, VolumeType

TYPE_SIZES: Mapping[VolumeType, str] = {
    VolumeType.REDIS: "2Gi",
    VolumeType.SESSIONS: "5Gi",
    VolumeType.MERKLE: "5Gi",
    VolumeType.LOGS: "5Gi",
    VolumeType.CHUNKS: "20Gi",
    VolumeType.BLOCKS: "20Gi",
    VolumeType.BACKUPS: "20Gi",
}
"""Where a type is known to need less or more than VOLUME_DEFAULT_SIZE."""
LABEL_LIMIT = 63
"""Of a label's value (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/)."""


@dataclass(frozen=True, slots=True)
class Growth:
    """autoExpand: bytes and percent."""

    step_percent: int
    limit: int


@dataclass(frozen=True, slots=True)
class VolumeDesired:
    """A Volume with its defaults resolved."""

    namespace: str
    name: str
    uid: str
    type: VolumeType
    size: int | None
    """As declared; None leaves the size of a claim that is there as it is."""
    new_size: int
    """Of a claim that is not there yet."""
    limit: int
    """VOLUME_MAX_SIZE."""
    class_name: str | None
    """As declared; None means the cluster's default for a new claim, and whatever one has that is there."""
    access_modes: tuple[str, ...] | None
    """As declared."""
    warning_percent: int
    critical_percent: int
    growth: Growth | None
    migrate: bool
    """resizeStrategy: Migrate."""
    copy_identity: CopyIdentity | None
    deletion_policy: DeletionPolicy
    confirmed_delete: bool

    @property
    def target(self) -> str:
        return f"{self.namespace}/{self.name}"


def resolve(resource: Resource, settings: Settings) -> VolumeDesired:
    """Raises RefusedError with what to change."""
    spec = specs.parse(VolumeSpec, resource)
    limit = to_bytes(settings.volume_max_size)
    size = _size("size", spec.size)
    if size is not None and size > limit:
        raise RefusedError(
            f"spec.size is {spec.size}, and the operator's settings allow {settings.volume_max_size} (VOLUME_MAX_SIZE);"
            " write a smaller size, or have the setting raised.",
            reason=Reason.INVALID_SPEC,
        )
    default = TYPE_SIZES.get(spec.type, settings.volume_default_size)
    thresholds = spec.thresholds
    warning = (thresholds.warning_percent if thresholds else None) or settings.volume_warning_threshold
    critical = (thresholds.critical_percent if thresholds else None) or settings.volume_critical_threshold
    if warning >= critical:
        raise RefusedError(
            f"The warning threshold ({warning}%) must be lower than the critical one ({critical}%); set both in"
            " spec.thresholds.",
            reason=Reason.INVALID_SPEC,
        )
    return VolumeDesired(
        namespace=resource.key.namespace,
        name=resource.key.name,
        uid=resource.uid,
        type=spec.type,
        size=size,
        new_size=size if size is not None else min(to_bytes(default), limit),
        limit=limit,
        class_name=spec.storage_class_name,
        access_modes=tuple(str(m) for m in spec.access_modes) if spec.access_modes else None,
        warning_percent=warning,
        critical_percent=critical,
        growth=_growth(spec, limit),
        migrate=spec.resize_strategy is ResizeStrategy.MIGRATE,
        copy_identity=spec.copy_identity,
        deletion_policy=spec.deletion_policy,
        confirmed_delete=resource.annotations.get(CONFIRM_DELETE) == resource.key.name,
    )


def claim_body(desired: VolumeDesired, class_name: str) -> Json:
    """The claim as it is made. `class_name` is written out, so that another default later changes nothing."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": desired.name,
            "namespace": desired.namespace,
            "labels": {
                "app.kubernetes.io/managed-by": "lucid-storage",
                VOLUME_LABEL: desired.name[:LABEL_LIMIT].rstrip("-."),
                VOLUME_TYPE_LABEL: str(desired.type),
            },
            "annotations": {CREATED_FOR: desired.uid},
        },
        "spec": {
            "accessModes": list(desired.access_modes or (AccessMode.READ_WRITE_ONCE,)),
            "storageClassName": class_name,
            "resources": {"requests": {"storage": to_text(desired.new_size)}},
        },
    }


def _growth(spec: VolumeSpec, limit: int) -> Growth | None:
    auto = spec.auto_expand
    if auto is None or not auto.enabled:
        return None
    most = _size("autoExpand.maxSize", auto.max_size)
    return Growth(auto.step_percent, limit if most is None else min(most, limit))


def _size(field: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return to_bytes(text)
    except ValueError as error:
        raise RefusedError(f"spec.{field}: {error}.", reason=Reason.INVALID_SPEC) from None
