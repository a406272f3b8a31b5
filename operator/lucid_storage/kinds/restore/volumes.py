"""Volumes of a Restore: the claims that are made or found empty, and how its worker mounts them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lucid_storage.errors import Reason, RefusedError
from lucid_storage.kinds.workers.job import VOLUMES_FOLDER, WORKER, ClaimMount, PodIdentity
from lucid_storage.kube.claims import Claim, Class, PodUse
from lucid_storage.kube.client import Json
from lucid_storage.models.meta import RESTORED_BY, RESTORED_FROM
from lucid_storage.models.orders import PlannedVolume, VolumeTarget
from lucid_storage.models.quantity import to_text
from lucid_storage.models.restore import RestoredVolume, VolumeRestore
from lucid_storage.models.volume import AccessMode, CopyIdentity


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """One volume that is restored, and what the cluster says of its target."""

    wanted: RestoredVolume
    claim: Claim | None
    copy: CopyIdentity | None = None
    """Of the Volume resource of the target's name."""
    users: tuple[PodUse, ...] = ()
    """Pods that have the claim, without our own worker."""


@dataclass(frozen=True, slots=True)
class WantedClaim:
    """A claim that is made for a restored volume."""

    name: str
    volume: str
    """As the backup names it."""
    size: int
    class_name: str | None
    """None takes the cluster's default."""
    access_modes: tuple[str, ...]
    snapshot: str | None


@dataclass(frozen=True, slots=True)
class UnfilledClaim:
    """A claim that another run made from the same snapshot, and that nobody can have written to: it has no volume."""

    claim: Claim
    volume: str
    """As the backup names it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a claim is made for."""

    backup_id: str
    run: str

    def mark(self, volume: str) -> dict[str, str]:
        """Annotations of the claim. Only the run that made it knows that nobody has used it since."""
        return {RESTORED_FROM: self.backup_id, RESTORED_BY: f"{self.run}/{volume}"}


@dataclass(frozen=True, slots=True)
class Filling:
    """What a worker needs to fill the volumes of one restore."""

    make: tuple[WantedClaim, ...] = ()
    """Claims that are made first."""
    take: tuple[UnfilledClaim, ...] = ()
    """Claims that are gone on with."""
    waiting: tuple[str, ...] = ()
    """Claims of this run that their storage is making, which it does before any pod needs them."""
    targets: tuple[VolumeTarget, ...] = ()
    mounts: tuple[ClaimMount, ...] = ()
    identity: PodIdentity = WORKER


NOTHING = Filling()


def asked(volumes: Sequence[VolumeRestore] | None) -> tuple[VolumeTarget, ...]:
    """What the spec says. Raises RefusedError when two volumes would go into one claim."""
    targets = tuple(VolumeTarget(name=v.name, target=v.target or v.name) for v in volumes or ())
    names = [t.target for t in targets]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise RefusedError(
            f'Two volumes would be restored into the claim "{twice}"; give each a target of its own.',
            reason=Reason.INVALID_SPEC,
        )
    return targets


def restored_volumes(planned: Sequence[PlannedVolume]) -> list[RestoredVolume] | None:
    """As status has it, so that whoever comes next makes the same claims."""
    return [
        RestoredVolume(
            name=v.name,
            target=v.target,
            size_bytes=v.requested_bytes,
            storage_class_name=v.storage_class,
            access_modes=list(v.access_modes) or None,
            snapshot=v.snapshot,
        )
        for v in planned
    ] or None


def filling(
    facts: Sequence[TargetFacts], classes: Mapping[str, Class], origin: Origin, *, waited: bool = False
) -> Filling:
    """`waited` when this run had all claims before: what another one took over since is that one's. Raises RefusedError
    with what to change.
    """
    make, take, waiting = [], [], []
    for one in facts:
        claim = one.claim
        if claim is None:
            make.append(_wanted(one.wanted, classes))
            continue
        _check_claim(one, claim, origin, waited=waited)
        if not _marked(claim, origin, one.wanted):
            take += [UnfilledClaim(claim, one.wanted.name)] if one.wanted.snapshot is not None else []
        elif claim.pending and (known := classes.get(claim.class_name or "")) is not None and known.immediate:
            waiting.append(claim.name)
    wanted = [one.wanted for one in facts]
    return Filling(
        make=tuple(make),
        take=tuple(take),
        waiting=tuple(waiting),
        targets=tuple(
            VolumeTarget(name=w.name, target=w.target, path=f"{VOLUMES_FOLDER}/{w.target}") for w in wanted
        ),
        mounts=tuple(ClaimMount(w.target, w.target, read_only=w.snapshot is not None) for w in wanted),
        identity=_identity(facts),
    )


def claim_body(namespace: str, wanted: WantedClaim, origin: Origin) -> Json:
    """A claim as it is sent to the API server. It belongs to nobody: the data outlive the Restore."""
    spec: Json = {
        "accessModes": list(wanted.access_modes) or [AccessMode.READ_WRITE_ONCE.value],
        "resources": {"requests": {"storage": to_text(wanted.size)}},
    }
    if wanted.class_name is not None:
        spec["storageClassName"] = wanted.class_name
    if wanted.snapshot is not None:
        spec["dataSource"] = {
            "apiGroup": "snapshot.storage.k8s.io",
            "kind": "VolumeSnapshot",
            "name": wanted.snapshot,
        }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": wanted.name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/name": "lucid-storage"},
            "annotations": origin.mark(wanted.volume),
        },
        "spec": spec,
    }


def _wanted(volume: RestoredVolume, classes: Mapping[str, Class]) -> WantedClaim:
    recorded = volume.storage_class_name
    if volume.snapshot is not None and recorded not in classes:
        raise RefusedError(
            f'The volume "{volume.name}" is restored from a snapshot, which only its storage class "{recorded}" can'
            " read, and that class is not there; make it, or choose a backup made with method Archive.",
            reason=Reason.CLASS_NOT_FOUND,
        )
    # In another cluster the class may have another name: an archive fits into any.
    known = recorded if recorded in classes else None
    if known is None and not any(c.default for c in classes.values()):
        raise RefusedError(
            f'The claim "{volume.target}" cannot be made: the storage class "{recorded}" is not there, and there is no'
            " default one. Make a Volume of that name with a class, and let the restore fill it.",
            reason=Reason.CLASS_NOT_FOUND,
        )
    modes = tuple(volume.access_modes or ())
    return WantedClaim(volume.target, volume.name, volume.size_bytes, known, modes, volume.snapshot)


def _marked(claim: Claim, origin: Origin, wanted: RestoredVolume) -> bool:
    return claim.annotations.items() >= origin.mark(wanted.name).items()


def _check_claim(one: TargetFacts, claim: Claim, origin: Origin, *, waited: bool) -> None:
    if one.users:
        names = ", ".join(use.name for use in one.users[:3])
        raise RefusedError(
            f'The claim "{claim.name}" is in use by {names}; stop it, or restore into another claim with `target`.',
            reason=Reason.CLAIM_IN_USE,
        )
    if claim.volume_mode != "Filesystem":
        raise RefusedError(
            f'The claim "{claim.name}" is a raw block device, and only file systems are restored; name another'
            " `target`.",
            reason=Reason.NOT_SUPPORTED,
        )
    if claim.deleting:
        raise RefusedError(
            f'The claim "{claim.name}" is being deleted; wait until it is gone, or name another `target`.',
            reason=Reason.CLAIM_TERMINATING,
        )
    if one.wanted.snapshot is None:
        if claim.pending and claim.source is not None:
            raise RefusedError(
                f'The claim "{claim.name}" is being made from {claim.source}, and an archive is restored into an empty'
                " one only; name another `target`, or remove the claim.",
                reason=Reason.TARGET_NOT_EMPTY,
            )
    elif not _marked(claim, origin, one.wanted) and (waited or not _unfilled(one, claim, origin)):
        raise RefusedError(
            f'The claim "{claim.name}" is there, and a snapshot becomes a new claim only; name another `target`, or'
            f" remove the claim.{_known(one, claim, origin)}",
            reason=Reason.TARGET_NOT_EMPTY,
        )


def _unfilled(one: TargetFacts, claim: Claim, origin: Origin) -> bool:
    """What this very snapshot becomes, and is not yet."""
    return claim.pending and claim.source == one.wanted.snapshot and _of_this_volume(one, claim, origin)


def _of_this_volume(one: TargetFacts, claim: Claim, origin: Origin) -> bool:
    """Whether some run made it for this volume of this backup."""
    made_by = claim.annotations.get(RESTORED_BY, "").partition("/")[2]
    return (claim.annotations.get(RESTORED_FROM), made_by) == (origin.backup_id, one.wanted.name)


def _known(one: TargetFacts, claim: Claim, origin: Origin) -> str:
    if not _of_this_volume(one, claim, origin):
        return ""
    return (
        " An earlier run made it from this snapshot, and what was written to it since is in it: if it is what you want,"
        " leave it out of spec.volumes."
    )


def _identity(facts: Sequence[TargetFacts]) -> PodIdentity:
    found = {_one_identity(one.copy): one.wanted.target for one in facts}
    if len(found) > 1:
        names = " and ".join(f'"{name}"' for name in sorted(found.values())[:3])
        raise RefusedError(
            f"The volumes {names} are to be written as different users (spec.copy), and one worker is one user; make a"
            " Restore for each.",
            reason=Reason.INVALID_SPEC,
        )
    return next(iter(found), WORKER)


def _one_identity(copy: CopyIdentity | None) -> PodIdentity:
    if copy is None or copy.run_as_user is None:
        group = copy.fs_group if copy is not None else None
        return PodIdentity(fs_group=group) if group is not None else WORKER
    user = copy.run_as_user
    group = copy.run_as_group if copy.run_as_group is not None else user
    # A new file system's top belongs to root; the kubelet gives it to this group. Root itself needs that not.
    fs_group = copy.fs_group if copy.fs_group is not None else group if user != 0 else None
    return PodIdentity(user, group, fs_group)
