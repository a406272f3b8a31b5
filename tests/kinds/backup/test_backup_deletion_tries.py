"""What removes the data of a deleted Backup is tried again in growing steps, however often it is looked at."""

from datetime import UTC, datetime, timedelta
from typing import cast

from backup_builder import NOW, completed, observed, resource, settings

from lucid_storage.errors import StoreUnavailableError
from lucid_storage.kinds.backup.actions import RemoveWorker, StartWorker
from lucid_storage.kinds.backup.kind import BackupKind
from lucid_storage.kinds.backup.observed import DELETE_AGAIN_MOST
from lucid_storage.kinds.backup.plan import plan
from lucid_storage.kinds.backup.snapshots import BackupSnapshots
from lucid_storage.kinds.backup.volume_facts import BackupVolumes
from lucid_storage.kinds.connections import Connections
from lucid_storage.kinds.workers.claims import DumpClaims
from lucid_storage.kinds.workers.launch import Workers
from lucid_storage.kinds.workers.state import ABSENT, WorkerState


class Cluster:
    """Jobs that come and go at once, and a Secret that cannot be read."""

    async def start(self, request: object) -> None:
        """Made."""

    async def stop(self, *names: object) -> None:
        """Gone."""

    async def state(self, *names: object, **more: object) -> WorkerState:
        return ABSENT

    async def settings(self, *names: object) -> object:
        raise StoreUnavailableError("not now")


def hands(cluster: Cluster | None = None) -> BackupKind:
    """The kind on such a cluster."""
    cluster = cluster or Cluster()
    return BackupKind(
        cast("Connections", cluster),
        cast("Workers", cluster),
        DumpClaims(),
        settings(),
        cast("BackupVolumes", cluster),
        cast("BackupSnapshots", cluster),
        others=list,
        schedules=list,
        wake=lambda chosen: None,
    )


async def test_each_attempt_that_failed_doubles_the_time_to_the_next_up_to_minutes() -> None:
    kind = hands()
    made, status = resource(deleted=NOW, held=True, deletionPolicy="Delete"), completed()
    [start] = plan(made, observed(), status, NOW).actions
    assert isinstance(start, StartWorker)
    assert (await kind.observe(made, status, NOW)).prune_again is None
    waits = []
    for _ in range(8):
        await kind.apply(made, status, start)
        assert (await kind.observe(made, status, NOW)).prune_again is None, "one is at it"
        failed = datetime.now(UTC)
        await kind.apply(made, status, RemoveWorker(start.request.name))
        for _ in range(3):
            again = (await kind.observe(made, status, NOW)).prune_again
        assert again is not None
        waits.append(round((again - failed).total_seconds()))
    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]
    assert timedelta(minutes=5) == DELETE_AGAIN_MOST
    kind.forget(made.key)
    assert (await kind.observe(made, status, NOW)).prune_again is None
