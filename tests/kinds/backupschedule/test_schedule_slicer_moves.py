"""What is done with a slicing worker when its schedule changes its logins or may not use them any more."""

from typing import Any, cast

from schedule_builder import CREATED

from kinds.surroundings import services
from lucid_storage.errors import NotAllowedError
from lucid_storage.kinds.backupschedule.kind import ScheduleCycle
from lucid_storage.kinds.workers.launch import WorkerRequest
from lucid_storage.kinds.workers.standing import StandingState
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backupschedule import BackupScheduleStatus, SlicerStatus
from lucid_storage.models.settings import Settings

SETTINGS = Settings.read(
    {
        "POD_NAMESPACE": "system",
        "SERVED_NAMESPACES": '{"default": {}}',
        "WORKER_IMAGE": "lucid-storage:test",
        "BACKUP_STORAGE_TYPE": "s3",
        "BACKUP_S3_BUCKET": "b",
    }
)


class Bed:
    """A cycle whose surroundings remember what was asked of them."""

    def __init__(self, refusal: NotAllowedError | None = None) -> None:
        self.refusal = refusal
        self.did: list[str] = []
        self.written: dict[str, Any] = {}
        me = cast("Any", self)
        given = services(self)
        self.cycle = ScheduleCycle(given, me, me, me, SETTINGS, me, known=lambda plural: [])

    async def look(self, connection: str | None, slicer: SlicerStatus | None) -> None:
        template: dict[str, Any] = {"type": "full"}
        if connection is not None:
            template |= {
                "connection": {"secretName": connection},
                "storage": {"s3": {"bucket": "vault", "secretName": "keys"}},
            }
        meta = {"name": "nightly", "namespace": "default", "uid": "uid-1", "creationTimestamp": CREATED}
        spec = {
            "schedule": "0 0 1 1 *",
            "template": template,
            "pointInTime": {"enabled": True, "intervalSeconds": 60},
        }
        body = {
            "metadata": meta,
            "spec": spec,
            "status": BackupScheduleStatus(slicer=slicer).to_dict(),
        }
        await self.cycle.run(Resource.from_body("backupschedules", body))

    # Workers and standing workers

    async def check(self, *_: object) -> None:
        if self.refusal is not None:
            raise self.refusal

    async def cluster(self) -> str:
        return "c"

    async def ensure(self, request: WorkerRequest) -> None:
        self.did.append(f"ensure with {request.connection}")

    async def remove(self, namespace: str, name: str) -> None:
        self.did.append(f"remove in {namespace}")

    async def state(self, *_: object, **__: object) -> StandingState:
        return StandingState(there=True, ready=True)

    # Telling

    async def write(self, resource: Resource, status: dict[str, Any]) -> str:
        self.written = status
        return "2"

    def emit(self, event: object) -> None: ...


def slicer(namespace: str | None) -> SlicerStatus:
    return SlicerStatus(deployment="nightly-slices-uid1", namespace=namespace)


async def test_with_other_logins_the_former_worker_ends_before_the_new_one_begins() -> None:
    bed = Bed()
    await bed.look("mine", slicer("system"))
    assert bed.did == ["remove in system", "ensure with mine"]
    assert bed.written["slicer"]["namespace"] == "default"


async def test_the_same_logins_leave_it_where_it_is() -> None:
    bed = Bed()
    await bed.look(None, slicer("system"))
    assert bed.did == ["ensure with None"]


async def test_logins_that_may_not_be_used_any_more_end_it() -> None:
    bed = Bed(NotAllowedError("Not served."))
    await bed.look(None, slicer("system"))
    assert bed.did == ["remove in system"]
