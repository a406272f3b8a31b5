"""One look: what was written before an action survives the action's failure; who may not act does nothing."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from kinds.surroundings import services
from lucid_storage.errors import (
    OUTAGE_GRACE_SECONDS,
    LoginFailedError,
    LucidError,
    NotAllowedError,
    StoreUnavailableError,
)
from lucid_storage.kinds import cycle as subject
from lucid_storage.kinds.contract import Disposal, Plan
from lucid_storage.kinds.cycle import Cycle
from lucid_storage.kinds.services import LET_GO_SECONDS
from lucid_storage.kube.events import Event
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.base import DeletionPolicy, Origin
from lucid_storage.models.collection import CollectionStatus
from lucid_storage.models.kinds import KINDS
from lucid_storage.models.meta import FINALIZER, PAUSED


@dataclass(frozen=True)
class Wanted:
    target: str = "db.users"
    database: str = "db"
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN


@dataclass(frozen=True)
class Make:
    def describe(self) -> str:
        return "make it"


@dataclass
class OneStep:
    """A kind with one journaled action, whose result is on record in `uuid`."""

    info = KINDS["Collection"]
    status_type = CollectionStatus
    failure: LucidError | None = None
    refusal: LucidError | None = None
    made: bool = False
    dropped: int = 0
    forgotten: list[Key] = field(default_factory=list)
    servers: dict[str, str | LucidError] = field(default_factory=dict)
    """What a resource's connection leads to, by its name."""

    async def desired(self, resource: Resource) -> Wanted:
        if self.refusal is not None:
            raise self.refusal
        return Wanted()

    def same_object(self, mine: Wanted, theirs: Wanted) -> bool:
        return mine == theirs

    async def identity(self, resource: Resource, desired: Wanted) -> str:
        found = self.servers.get(resource.key.name, "server")
        if isinstance(found, LucidError):
            raise found
        return found

    async def observe(self, *_: object) -> bool:
        return self.made

    def plan(
        self, resource: Resource, desired: Wanted, observed: bool, status: CollectionStatus, scope: object
    ) -> Plan[CollectionStatus]:
        if observed:
            return Plan(status)
        return Plan(status.model_copy(update={"uuid": "a" * 32}), actions=(Make(),), journal=True)

    async def apply(
        self, resource: Resource, desired: Wanted, status: CollectionStatus, action: Make
    ) -> None:
        status.origin = Origin.CREATED
        if self.failure is not None:
            raise self.failure
        self.made = True

    def disposal(self, *_: object) -> Disposal:
        return Disposal(True, "")

    async def dispose(self, *_: object) -> str:
        self.dropped += 1
        return "Dropped db.users."

    async def explain(
        self, resource: object, desired: object, status: object, error: LucidError
    ) -> LucidError:
        return error

    def forget(self, key: Key) -> None:
        self.forgotten.append(key)

    def sweep_seconds(self, *_: object) -> float:
        return 600


class Bed:
    def __init__(self) -> None:
        self.kind = OneStep()
        self.written: list[dict[str, Any]] = []
        self.released = 0
        self.terminating = False
        self.events: list[Event] = []
        self.peers: list[Resource] = []
        given = services(self, peers=lambda resource, target: self.peers)
        self.cycle = Cycle(cast("Any", self.kind), given)

    async def write(self, resource: Resource, status: dict[str, Any]) -> str:
        self.written.append(status)
        return "11"

    def emit(self, event: Event) -> None:
        self.events.append(event)

    async def hold(self, resource: Resource) -> bool:
        return True

    async def release(self, resource: Resource) -> bool:
        self.released += 1
        return True

    async def namespace_terminating(self, namespace: str) -> bool:
        return self.terminating


def resource(**meta: Any) -> Resource:
    known = {"name": "users", "namespace": "ns", "uid": "u", "resourceVersion": "10", "generation": 1, **meta}
    spec = {"deletionPolicy": "Delete"} if "finalizers" in meta else {}
    return Resource.from_body("collections", {"metadata": known, "spec": spec})


@pytest.fixture
def bed() -> Bed:
    return Bed()


async def test_a_failed_action_does_not_unsay_what_was_recorded_before_it(bed: Bed) -> None:
    bed.kind.failure = StoreUnavailableError("lost half-way")
    outcome = await bed.cycle.run(resource())
    assert outcome.failed
    assert [written.get("uuid") for written in bed.written] == ["a" * 32, "a" * 32]
    assert bed.written[-1]["origin"] == "Created"


async def test_a_paused_resource_does_nothing_and_says_so(bed: Bed) -> None:
    await bed.cycle.run(resource(annotations={PAUSED: "true"}))
    assert not bed.kind.made
    ready = bed.written[-1]["conditions"][0]
    assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "False", "Paused")


async def test_nothing_is_written_while_a_restore_swaps_in_the_database(bed: Bed) -> None:
    bed.cycle._services.swapping = lambda identity, database: "ns/back"
    outcome = await bed.cycle.run(resource())
    assert not bed.kind.made
    assert outcome.again_seconds is not None
    assert outcome.again_seconds <= 5
    ready = bed.written[-1]["conditions"][0]
    assert (ready["status"], ready["reason"]) == ("False", "Progressing")
    assert "ns/back" in ready["message"]
    bed.cycle._services.swapping = lambda identity, database: None
    await bed.cycle.run(resource())
    assert bed.kind.made


async def test_nothing_goes_on_in_the_name_of_a_resource_that_may_not_act(bed: Bed) -> None:
    bed.kind.refusal = NotAllowedError("the Secret was withdrawn")
    await bed.cycle.run(resource())
    assert bed.kind.forgotten == [resource().key]


async def test_an_outage_ends_nothing_that_goes_on_in_the_background(bed: Bed) -> None:
    bed.kind.refusal = StoreUnavailableError("away")
    await bed.cycle.run(resource())
    assert bed.kind.forgotten == []


async def test_nothing_goes_on_in_the_name_of_a_resource_that_is_going(bed: Bed) -> None:
    bed.kind.refusal = StoreUnavailableError("away")
    going = resource(deletionTimestamp="2026-11-21T12:00:00Z", finalizers=[FINALIZER])
    going.spec["deletionPolicy"] = "Delete"
    outcome = await bed.cycle.run(going)
    assert outcome.failed
    assert bed.kind.forgotten == [going.key]


async def test_a_held_resource_that_says_retain_now_goes_without_asking_a_store(bed: Bed) -> None:
    bed.kind.refusal = NotAllowedError("the Secret is gone")
    going = resource(deletionTimestamp="2026-11-21T12:00:00Z", finalizers=[FINALIZER])
    going.spec["deletionPolicy"] = "Retain"
    outcome = await bed.cycle.run(going)
    assert outcome.gone
    assert "stays" in bed.events[-1].message


async def test_what_was_ready_is_excused_for_a_few_seconds_and_not_for_ever(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(subject, "monotonic", lambda: clock[0])
    bed.kind.made = True
    ready = resource()
    await bed.cycle.run(ready)
    bed.kind.refusal = StoreUnavailableError("a lock is held by another operation")
    outcome = await bed.cycle.run(ready)
    assert not outcome.failed
    clock[0] += OUTAGE_GRACE_SECONDS
    outcome = await bed.cycle.run(ready)
    assert outcome.failed
    assert bed.written[-1]["conditions"][0]["reason"] == "StoreUnavailable"


OLDER, YOUNGER = "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"
MINE = "2026-11-15T00:00:00Z"


def peer(name: str, created: str, secret: str = "") -> Resource:
    """Another resource about the same collection, with a login and an address of its own."""
    found = resource(name=name, uid=name, creationTimestamp=created)
    found.spec["connection"] = {"secretName": secret}
    return found


@pytest.mark.parametrize(
    ("elder", "made"),
    [
        ("server", False),  # its Secret holds another URI of the same server
        ("another server", True),
        (LoginFailedError("the password was refused"), True),
        (StoreUnavailableError("nobody answers at its address"), True),
        (NotAllowedError("its Secret may not be used"), True),
    ],
)
async def test_the_oldest_resource_that_can_log_in_owns_what_is_on_the_same_server_whatever_its_address(
    bed: Bed, elder: str | LucidError, made: bool
) -> None:
    bed.peers = [peer("younger", YOUNGER, "c"), peer("elder", OLDER, "b")]
    bed.kind.servers = {"users": "server", "elder": elder, "younger": "server"}
    await bed.cycle.run(resource(creationTimestamp=MINE))
    assert bed.kind.made is made
    ready = bed.written[-1]["conditions"][0]
    assert (ready["status"], ready["reason"]) == (("True", "Reconciled") if made else ("False", "Conflict"))
    assert made or "ns/elder, which is older" in ready["message"]


async def test_an_owner_whose_address_does_not_answer_for_a_while_stays_the_owner(bed: Bed) -> None:
    elder = peer("elder", OLDER, "b")
    elder.status["serverIdentity"] = "server"
    bed.peers = [elder]
    bed.kind.servers = {"elder": StoreUnavailableError("its name cannot be looked up")}
    await bed.cycle.run(resource(creationTimestamp=MINE))
    assert not bed.kind.made
    assert bed.written[-1]["conditions"][0]["reason"] == "Conflict"


async def test_one_that_cannot_log_in_leaves_the_object_to_the_next_oldest(bed: Bed) -> None:
    bed.peers = [peer("refused", "2026-10-01T00:00:00Z", "a"), peer("elder", OLDER, "b")]
    bed.kind.servers = {"refused": LoginFailedError("the password was refused")}
    await bed.cycle.run(resource(creationTimestamp=MINE))
    assert not bed.kind.made
    assert "ns/elder" in bed.written[-1]["conditions"][0]["message"]


async def test_of_two_of_the_same_age_the_first_by_name_owns_the_object(bed: Bed) -> None:
    bed.peers = [peer("zzz", MINE), peer("aaa", MINE)]
    await bed.cycle.run(resource(creationTimestamp=MINE))
    assert "ns/aaa" in bed.written[-1]["conditions"][0]["message"]


DELETED_AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


def deleted(**meta: Any) -> Resource:
    """Held by its finalizer, since its data are to go with it."""
    return resource(deletionTimestamp=DELETED_AT.isoformat(), finalizers=[FINALIZER], **meta)


def at(bed: Bed, seconds: float) -> None:
    """So long after the deletion."""
    bed.cycle._services.now = lambda: DELETED_AT + timedelta(seconds=seconds)


@pytest.mark.parametrize("hours", [0, 1000])
async def test_a_paused_resource_that_is_deleted_waits_with_its_data_however_long(
    bed: Bed, hours: float
) -> None:
    at(bed, 3600 * hours)
    outcome = await bed.cycle.run(deleted(annotations={PAUSED: "true"}))
    assert outcome.failed
    assert (bed.kind.dropped, bed.released) == (0, 0)
    ready = bed.written[-1]["conditions"][0]
    assert (ready["status"], ready["reason"]) == ("False", "Deleting")
    assert "paused; remove the annotation" in ready["message"]
    outcome = await bed.cycle.run(deleted())
    assert outcome.gone
    assert (bed.kind.dropped, bed.released) == (1, 1)


async def test_a_paused_resource_is_let_go_with_its_namespace_and_its_data_stay(bed: Bed) -> None:
    bed.terminating = True
    paused = deleted(annotations={PAUSED: "true"})
    at(bed, LET_GO_SECONDS - 5)
    outcome = await bed.cycle.run(paused)
    assert outcome.failed
    assert outcome.again_seconds == 5, "it is looked at again when the time is over"
    assert bed.released == 0
    at(bed, LET_GO_SECONDS)
    outcome = await bed.cycle.run(paused)
    assert outcome.gone
    assert (bed.kind.dropped, bed.released) == (0, 1)
    assert "the data stays" in bed.events[-1].message
    assert "paused" in bed.events[-1].message
    assert bed.cycle._services.metrics.let_go.labels("Collection")._value.get() == 1
