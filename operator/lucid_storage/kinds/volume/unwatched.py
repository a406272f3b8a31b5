"""Whether somebody tells the use of a volume: without figures no threshold is passed and nothing grows. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from lucid_storage.errors import Reason
from lucid_storage.kinds.volume.desired import VolumeDesired
from lucid_storage.kinds.volume.observed import VolumeObserved
from lucid_storage.models.settings import Settings
from lucid_storage.models.volume import VolumeStatus

PATIENCE = timedelta(minutes=10)
"""Without figures, before they are said to be missing; longer where they are asked for more rarely."""
CONDITION = "UsageUnknown"


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is asked for the use of volumes."""

    kubelets: bool
    readers: bool
    every: timedelta
    """Between two answers."""

    @property
    def patience(self) -> timedelta:
        return max(PATIENCE, 3 * self.every)


def watch_of(settings: Settings) -> Watch:
    """As the operator is set up."""
    kubelets = bool(settings.kubelet_ca and settings.kubelet_service_account)
    readers = bool(settings.volume_reader_seconds and settings.worker_image)
    seconds = settings.volume_reader_seconds if readers else settings.volume_stats_seconds
    return Watch(kubelets, readers, timedelta(seconds=seconds))


def expected(seen: VolumeObserved, watch: Watch, now: datetime) -> bool:
    """Whether there should be newer figures than there are: a kubelet tells only of what a pod mounts."""
    claim = seen.claim
    if claim is None or not claim.bound or claim.deleting or not (seen.users or watch.readers):
        return False
    return seen.figures is None or now - seen.figures.at > watch.patience


def noted(
    desired: VolumeDesired, seen: VolumeObserved, status: VolumeStatus, watch: Watch, now: datetime
) -> VolumeStatus:
    """The status with why the use is not known; None there when it is, or when nothing can have changed it."""
    return status.model_copy(update={"usage_unknown": _why(desired, seen, status, watch, now)})


def _why(
    desired: VolumeDesired, seen: VolumeObserved, status: VolumeStatus, watch: Watch, now: datetime
) -> str | None:
    claim = seen.claim
    if claim is None or not claim.bound or claim.deleting:
        return None
    what = "thresholds and autoExpand" if desired.growth is not None else "thresholds"
    if claim.volume_mode != "Filesystem":
        return f"Nobody can tell the use of a block device, so {what} do nothing." if desired.growth else None
    if not watch.kubelets and not watch.readers:
        return (
            f"Nobody is asked for the use of volumes, so {what} do nothing: set KUBELET_CA (volumes.kubeletCA of the"
            " chart) or VOLUME_READER_SECONDS (volumes.readerSeconds)."
        )
    if seen.shared_disk and not watch.readers:
        return (
            f"The kubelet tells only the whole disk that the volume lies on, so {what} do nothing: set"
            " VOLUME_READER_SECONDS (volumes.readerSeconds of the chart)."
        )
    if not expected(seen, watch, now):
        return None
    since = seen.unwatched_since
    if since is None or now - since <= watch.patience:
        return status.usage_unknown  # the first round after a start is still to come
    last = f"since {status.stats_time:%Y-%m-%d %H:%M} UTC" if status.stats_time is not None else "yet"
    asked = "the reader pod" if watch.readers else "the kubelet of its node"
    return (
        f"There are no figures {last}, although {asked} is asked for them, so {what} do nothing; the operator's log and"
        " events of this Volume say why."
    )


def rows(status: VolumeStatus) -> list[tuple[str, bool, Reason, str]]:
    """The condition; none for a volume that was never used."""
    if status.usage_unknown is not None:
        return [(CONDITION, True, Reason.USAGE_UNKNOWN, status.usage_unknown)]
    return [(CONDITION, False, Reason.USAGE_KNOWN, "")] if status.stats_time is not None else []
