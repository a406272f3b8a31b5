"""What stands between a claim and its use, as one sentence. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from lucid_storage.errors import Reason
from lucid_storage.kinds.contract import Verdict
from lucid_storage.kinds.volume.observed import VolumeObserved
from lucid_storage.kube.claims import Claim, Node, PersistentVolume
from lucid_storage.models.volume import VolumeStatus

WORDS = 400
"""Characters of another program's message that are passed on."""
PATIENCE = timedelta(seconds=20)
"""A claim that waits for shorter than this is not said to fail: provisioners stumble and try again."""
NAMES = 5
STATIC = "kubernetes.io/no-provisioner"
"""Of a class whose volumes people make."""


def lost(seen: VolumeObserved, status: VolumeStatus) -> Verdict:
    """The claim was deleted by somebody; what became of the data."""
    said = f"The claim was deleted by somebody, and an empty one is not made in its place. {_fate(seen.volume, status)}"
    return Verdict(Reason.CLAIM_LOST, said, stalled=True)


def replaced(seen: VolumeObserved, status: VolumeStatus) -> Verdict:
    """Another claim has the name."""
    said = (
        "The claim was deleted by somebody, and another one has its name now. To go on with that one, delete this"
        f" Volume and create it again. {_fate(seen.volume, status)}"
    )
    return Verdict(Reason.CLAIM_REPLACED, said, stalled=True)


def _fate(volume: PersistentVolume | None, status: VolumeStatus) -> str:
    if volume is None or volume.deleting:
        return (
            f"Its data went with the PersistentVolume {status.volume_name}. Delete this Volume and create it again for"
            " an empty claim, or restore a backup."
        )
    if volume.reclaim_policy == "Delete":
        return (
            f"The PersistentVolume {volume.name} is still there and is about to be deleted: to save the data, set its"
            " persistentVolumeReclaimPolicy to Retain now."
        )
    return (
        f"The data are safe on the PersistentVolume {volume.name}, which is kept. To get them back, remove its"
        f" spec.claimRef.uid and spec.claimRef.resourceVersion and create the claim again with volumeName:"
        f" {volume.name}. For an empty claim instead, delete this Volume and create it again."
    )


def terminating(seen: VolumeObserved) -> Verdict:
    """Somebody deleted the claim, and it is held."""
    policy = seen.volume.reclaim_policy if seen.volume is not None else "unknown"
    after = (
        f"To keep the data, set the persistentVolumeReclaimPolicy of {seen.volume.name} to Retain now."
        if seen.volume is not None and policy == "Delete"
        else "The data stay on the PersistentVolume."
    )
    holders = ", ".join(p.name for p in seen.pods[:NAMES])
    held = f"It goes when these pods no longer use it: {holders}." if holders else held_by_ended(seen)
    held = held or "It is about to go."
    return Verdict(
        Reason.CLAIM_TERMINATING, f"The claim was deleted by somebody. {held} {after}", stalled=True
    )


def held_by_ended(seen: VolumeObserved) -> str:
    """A sentence about pods that are over and hold the claim all the same; empty when there are none."""
    names = ", ".join(p.name for p in seen.ended[:NAMES])
    return f"These pods have ended and hold it until they are deleted: {names}." if names else ""


def gone_volume(claim: Claim) -> Verdict:
    """Kubernetes calls the claim Lost."""
    return Verdict(
        Reason.VOLUME_LOST,
        f"The PersistentVolume {claim.volume_name} of the claim is gone, and with it the way to the data. Bring that"
        " object back from a backup of the cluster, or delete the claim and this Volume and restore the data.",
        stalled=True,
    )


def pending(seen: VolumeObserved, claim: Claim, now: datetime) -> Verdict:
    """The claim has no volume yet."""
    storage_class = seen.storage_class
    if claim.class_name and storage_class is None:
        return class_missing(seen, claim.class_name)
    if seen.warning and now - claim.created >= PATIENCE:
        return Verdict(
            Reason.PROVISIONING, f"The volume could not be made yet: {short(seen.warning)} It is tried again."
        )
    if storage_class is not None and not storage_class.immediate and not seen.pods:
        return Verdict(
            Reason.WAITING_FOR_POD,
            f"The class {storage_class.name} makes the volume when a first pod mounts the claim. Start the pod that"
            " uses it.",
        )
    if storage_class is None or storage_class.provisioner == STATIC:
        free = f"of the class {claim.class_name}" if claim.class_name else "without a class"
        return Verdict(
            Reason.PROVISIONING,
            f"The claim waits for a free PersistentVolume {free} that is large enough; make one.",
        )
    return Verdict(Reason.PROVISIONING, f"The class {claim.class_name} is making the volume.")


def not_expanded(seen: VolumeObserved, size: str, words: str, *, mounting: bool) -> Verdict:
    """The driver could not do it; with `mounting` only the file system is left, which grows when it is mounted anew."""
    if mounting:
        users = ", ".join(p.name for p in seen.pods[:NAMES])
        said = (
            f"The volume has {size}, and its file system did not grow under the pods that use it: {users}. End them; it"
            f" grows when a pod mounts the claim next. The driver says: {short(words)}"
        )
        return Verdict(Reason.CLAIM_IN_USE, said, stalled=True)
    said = (
        f"The storage driver could not expand the volume to {size}: {short(words)} It is tried again; if the driver"
        " cannot give this size at all, make another Volume and move the data."
    )
    return Verdict(Reason.EXPANSION_FAILED, said, stalled=True)


def class_missing(seen: VolumeObserved, name: str | None) -> Verdict:
    """The class is not there, or none is named and there is no default."""
    known = ", ".join(sorted(seen.classes)[:10]) or "none"
    if name is None:
        said = f"The cluster has no default storage class; set spec.storageClassName to one of: {known}."
    else:
        said = f'There is no storage class "{name}"; create it, or name one of: {known}.'
    return Verdict(Reason.CLASS_NOT_FOUND, said, stalled=True)


def node_away(seen: VolumeObserved) -> Verdict | None:
    """A node that is needed does not answer, or holds the volume back."""
    by_host = {n.hostname: n for n in seen.nodes.values()}
    if seen.volume is not None and seen.volume.hostnames and seen.nodes:
        homes = [by_host.get(h) for h in seen.volume.hostnames]
        if not any(n is not None and n.ready for n in homes):
            name = seen.volume.hostnames[0]
            return _away(f"The volume lies on the node {name}, which {_why(homes[0])}.")
    for pod in seen.users:
        node = seen.nodes.get(pod.node) if pod.node is not None else None
        if node is not None and not node.ready:
            return _away(f"The pod {pod.name} uses the volume on the node {node.name}, which {_why(node)}.")
    for attachment in seen.attachments:
        waiting = [p for p in seen.users if p.node not in (None, attachment.node) and p.phase == "Pending"]
        holder = seen.nodes.get(attachment.node)
        if attachment.attached and waiting and (holder is None or not holder.ready):
            return _away(
                f"The volume is still attached to the node {attachment.node}, which {_why(holder)}; the pod"
                f" {waiting[0].name} on {waiting[0].node} waits for it."
            )
    return None


def _why(node: Node | None) -> str:
    if node is None:
        return "is no longer in the cluster"
    return f"has not answered since {node.since}" if node.since else "does not answer"


def _away(said: str) -> Verdict:
    return Verdict(
        Reason.NODE_AWAY,
        f"{said} Start the node again; if it is off for good, taint it with"
        " node.kubernetes.io/out-of-service=nodeshutdown:NoExecute so that Kubernetes lets the volume go.",
    )


def short(text: str) -> str:
    """Another program's words, bounded, as a sentence."""
    said = " ".join(text.split())
    said = said if len(said) <= WORDS else f"{said[: WORDS - 1]}…"
    return said if said.endswith((".", "…", "!", "?")) else f"{said}."
