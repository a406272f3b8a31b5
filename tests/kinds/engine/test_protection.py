"""backupBefore: what could lose data waits for a verified Backup of its own, whatever is interrupted."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from kinds.surroundings import services
from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds.backup.desired import backup_id
from lucid_storage.kinds.contract import Plan
from lucid_storage.kinds.cycle import Cycle
from lucid_storage.kinds.protection import (
    CLOCKS,
    FRESH,
    Demand,
    Need,
    Protector,
    Standing,
    backup_body,
    chain,
    judge,
    place_of,
)
from lucid_storage.kinds.services import Outcome
from lucid_storage.kube.client import Json, KubeApiError
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.backup import BackupEngine, BackupSpec
from lucid_storage.models.base import DeletionPolicy
from lucid_storage.models.collection import CollectionStatus
from lucid_storage.models.kinds import KINDS

NEED = Need(BackupEngine.MONGODB, collections=("db.users",))


@dataclass(frozen=True)
class Wanted:
    target: str = "db.users"
    database: str = "db"
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN


@dataclass(frozen=True)
class Shrink:
    def describe(self) -> str:
        return "cut off documents"


@dataclass
class Lossy:
    """A kind with one action, which loses data."""

    info = KINDS["Collection"]
    status_type = CollectionStatus
    made: bool = False
    wanted: bool = True
    looks: int = 0
    failure: LucidError | None = None
    server: str = "server"

    async def desired(self, resource: Resource) -> Wanted:
        return Wanted()

    async def identity(self, resource: Resource, desired: Wanted) -> str:
        return self.server

    async def observe(self, *_: object) -> bool:
        self.looks += 1
        return self.made or not self.wanted

    def plan(
        self, resource: Resource, desired: Wanted, done: bool, status: CollectionStatus, scope: object
    ) -> Plan[CollectionStatus]:
        return Plan(status) if done else Plan(status, actions=(Shrink(),), protect=NEED)

    async def apply(
        self, resource: Resource, desired: Wanted, status: CollectionStatus, action: Shrink
    ) -> None:
        if self.failure is not None:
            raise self.failure
        self.made = True

    async def explain(self, *given: Any) -> LucidError:
        return cast("LucidError", given[-1])

    def forget(self, key: Key) -> None: ...

    def sweep_seconds(self, *_: object) -> float:
        return 600


@dataclass
class Bed:
    """Backups as an API server keeps them, and a resource as the last write left it."""

    now: datetime = datetime(2026, 11, 21, 12, tzinfo=UTC)
    backups: dict[str, Json] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    generation: int = 1
    secret: str | None = None
    schedules: list[Resource] = field(default_factory=list)
    refusal: KubeApiError | None = None
    made: int = 0

    def __post_init__(self) -> None:
        self.kind = Lossy()
        self.restart()

    def restart(self) -> None:
        """Another leader: nothing is remembered but what was written."""
        given = services(
            self, protector=Protector(cast("Any", self), lambda: self.schedules), now=lambda: self.now
        )
        self.cycle = Cycle(cast("Any", self.kind), given)

    async def look(self) -> Outcome:
        spec = {"connection": {"secretName": self.secret}} if self.secret else {}
        meta = {
            "name": "users",
            "namespace": "ns",
            "uid": "u",
            "resourceVersion": "1",
            "generation": self.generation,
        }
        body = {"metadata": meta, "spec": spec, "status": self.status}
        return await self.cycle.run(Resource.from_body("collections", body))

    def reason(self) -> str:
        return str(next(c["reason"] for c in self.status["conditions"] if c["type"] == "Ready"))

    def message(self) -> str:
        return str(next(c["message"] for c in self.status["conditions"] if c["type"] == "Ready"))

    def end(self, phase: str = "Completed", verified: str = "True") -> str:
        """The newest Backup ends; its name."""
        name = list(self.backups)[-1]
        conditions = [
            {"type": "Ready", "status": "True", "message": "It is over."},
            {"type": "Verified", "status": verified, "message": ""},
        ]
        for condition in conditions:
            condition |= {"reason": "It", "lastTransitionTime": self.now.isoformat()}
        self.backups[name]["status"] = {
            "phase": phase,
            "id": backup_id(self.backups[name]["metadata"]["uid"]),
            "completedAt": self.now.isoformat(),
            "conditions": conditions,
            "engines": [{"engine": "mongodb", "phase": phase, "serverIdentity": self.kind.server}],
        }
        return name

    # The API server

    async def get(self, key: Key) -> Json | None:
        return self.backups.get(key.name)

    async def create(self, plural: str, body: Json) -> bool:
        if self.refusal is not None:
            raise self.refusal
        BackupSpec.model_validate(body["spec"])
        self.made += 1
        body["metadata"] |= {"uid": f"uid-{self.made}", "creationTimestamp": self.now.isoformat()}
        return self.backups.setdefault(body["metadata"]["name"], body) is body

    async def write(self, resource: Resource, status: dict[str, Any]) -> str:
        self.status = status
        return "2"

    def emit(self, event: object) -> None: ...

    async def release(self, resource: Resource) -> bool:
        return True


@pytest.fixture
def bed() -> Bed:
    return Bed()


async def test_the_change_is_made_when_the_backup_is_verified_and_not_before(bed: Bed) -> None:
    first = await bed.look()
    assert not bed.kind.made
    (name,) = bed.backups
    assert (bed.reason(), bed.status["protection"]["backup"]) == ("Progressing", name)
    assert name in bed.message()
    assert first.again_seconds is not None
    assert first.again_seconds < 5
    spec = bed.backups[name]["spec"]
    assert spec["mongodb"] == {"collections": ["db.users"]}
    assert (spec["type"], spec["verify"], spec["chain"]) == ("full", "Checksum", "before-collections-users")
    await bed.look()
    assert not bed.kind.made
    bed.end()
    await bed.look()
    assert bed.kind.made
    assert bed.reason() == "Reconciled"
    assert list(bed.backups) == [name]


async def test_while_the_backup_runs_nothing_is_counted_again(bed: Bed) -> None:
    await bed.look()
    looks = bed.kind.looks
    await bed.look()
    assert bed.kind.looks == looks


@pytest.mark.parametrize("moment", ["before the backup is made", "while it runs", "when it is done"])
async def test_another_leader_goes_on_with_the_same_backup(bed: Bed, moment: str) -> None:
    if moment == "before the backup is made":
        bed.refusal = KubeApiError(500, "InternalError", "away")
        with pytest.raises(KubeApiError):
            await bed.look()
        bed.refusal = None
    else:
        await bed.look()
    known = bed.status["protection"]["backup"]
    if moment == "when it is done":
        bed.end()
    bed.now += timedelta(minutes=1)
    bed.restart()
    await bed.look()
    assert list(bed.backups) == [known]
    if moment != "when it is done":
        bed.end()
        await bed.look()
    assert bed.kind.made


async def test_the_next_change_gets_a_backup_of_its_own(bed: Bed) -> None:
    """Even of the same generation: somebody undid the change, and it is made again."""
    await bed.look()
    bed.end()
    await bed.look()
    assert bed.status["protection"]["used"] is True
    bed.kind.made = False
    bed.now += timedelta(hours=1)
    await bed.look()
    assert (bed.kind.made, len(bed.backups)) == (False, 2)


async def test_a_change_that_is_not_wanted_any_more_leaves_no_proof_for_a_later_one(bed: Bed) -> None:
    await bed.look()
    bed.end()
    bed.kind.wanted = False
    await bed.look()
    bed.kind.wanted = True
    bed.now += timedelta(hours=1)
    await bed.look()
    assert (bed.kind.made, len(bed.backups)) == (False, 2)


async def test_a_change_that_the_server_refuses_makes_no_backup_after_backup(bed: Bed) -> None:
    await bed.look()
    bed.end()
    bed.kind.failure = LucidError("Refused.", reason=Reason.SERVER_REFUSED)
    for _ in range(3):
        await bed.look()
        assert bed.reason() == "ServerRefused"
    assert len(bed.backups) == 1
    bed.now += FRESH + timedelta(minutes=1)
    await bed.look()
    assert len(bed.backups) == 2, "a proof of yesterday protects from nothing"


@pytest.mark.parametrize(
    ("phase", "verified"),
    [("Failed", "False"), ("PartiallyFailed", "False"), ("Cancelled", "False"), ("Completed", "False")],
)
async def test_a_backup_that_failed_stops_the_change_until_somebody_acts(
    bed: Bed, phase: str, verified: str
) -> None:
    await bed.look()
    name = bed.end(phase, verified)
    await bed.look()
    assert not bed.kind.made
    assert bed.reason() == "BackupUnavailable"
    assert name in bed.message()
    assert "backupBefore: false" in bed.message()
    del bed.backups[name]
    bed.now += timedelta(minutes=1)
    await bed.look()
    (another,) = bed.backups
    assert another != name, "under its name the data of the one that failed would be found again (rule 1.10)"
    bed.end()
    await bed.look()
    assert bed.kind.made


async def test_a_backup_of_somebody_else_proves_nothing(bed: Bed) -> None:
    await bed.look()
    name = bed.end()
    bed.backups[name]["metadata"]["annotations"] = {}
    await bed.look()
    assert (bed.kind.made, bed.reason()) == (False, "BackupUnavailable")


async def test_a_namespace_that_takes_no_backup_is_told(bed: Bed) -> None:
    bed.refusal = KubeApiError(403, "Forbidden", "exceeded quota")
    await bed.look()
    assert (bed.kind.made, bed.reason()) == (False, "BackupUnavailable")
    assert "exceeded quota" in bed.message()
    name = bed.status["protection"]["backup"]
    bed.refusal = None
    await bed.look()
    assert list(bed.backups) == [name]


def schedule(name: str, secret: str | None, bucket: str, created: str = "2026-01-01T00:00:00Z") -> Resource:
    template: dict[str, Any] = {
        "type": "full",
        "storage": {"s3": {"bucket": bucket, "secretName": "keys"}},
        "encryption": {"secretName": "keys", "keyId": "k1"},
    }
    if secret is not None:
        template["connection"] = {"secretName": secret}
    meta = {"name": name, "namespace": "ns", "uid": name, "creationTimestamp": created}
    return Resource.from_body("backupschedules", {"metadata": meta, "spec": {"template": template}})


async def test_with_credentials_of_the_namespace_it_goes_where_its_schedule_puts_backups(bed: Bed) -> None:
    bed.secret = "mine"
    await bed.look()
    assert bed.reason() == "BackupUnavailable"
    assert "BackupSchedule" in bed.message()
    bed.schedules = [schedule("other", "other", "theirs"), schedule("nightly", "mine", "vault")]
    await bed.look()
    (backup,) = bed.backups.values()
    assert backup["spec"]["storage"]["s3"]["bucket"] == "vault"
    assert backup["spec"]["encryption"] == {"secretName": "keys", "keyId": "k1"}
    assert backup["spec"]["connection"] == {"secretName": "mine"}


def test_the_oldest_schedule_says_where() -> None:
    mine = Resource.from_body("collections", {"metadata": {"name": "a", "namespace": "ns", "uid": "u"}})
    younger = schedule("a", None, "young", "2026-03-01T00:00:00Z")
    found = place_of(mine, [younger, schedule("b", None, "vault")])
    assert found is not None
    assert found.storage is not None
    assert found.storage.s3 is not None
    assert found.storage.s3.bucket == "vault"
    assert place_of(mine, []) is None


def test_one_backup_can_hold_several_stores() -> None:
    mine = Resource.from_body("restores", {"metadata": {"name": "a" * 80, "namespace": "ns", "uid": "u"}})
    needs = [
        Need(BackupEngine.MONGODB, databases=("shop",)),
        Need(BackupEngine.REDIS),
        Need(BackupEngine.ELASTICSEARCH, indices=("lucid-*",)),
    ]
    spec = BackupSpec.model_validate(backup_body(mine, "x", needs, None)["spec"])
    assert spec.engines == [BackupEngine.MONGODB, BackupEngine.REDIS, BackupEngine.ELASTICSEARCH]
    assert spec.chain is not None
    assert len(spec.chain) == 63


async def test_a_backup_that_takes_the_place_of_the_one_that_was_seen_proves_nothing(bed: Bed) -> None:
    await bed.look()
    await bed.look()
    name = bed.end()
    bed.backups[name]["metadata"]["uid"] = "another"
    bed.backups[name]["status"]["id"] = backup_id("another")
    await bed.look()
    assert (bed.kind.made, bed.reason()) == (False, "BackupUnavailable")
    assert "somebody else made it" in bed.message()


async def test_a_backup_of_the_server_before_does_not_protect_the_one_of_now(bed: Bed) -> None:
    await bed.look()
    bed.end()
    bed.kind.server, bed.status["serverIdentity"] = "another", "another"
    await bed.look()
    assert (bed.kind.made, bed.reason()) == (False, "BackupUnavailable")
    assert "another server" in bed.message()


OWNER = Resource.from_body("collections", {"metadata": {"name": "users", "namespace": "ns", "uid": "u"}})
SINCE = datetime(2026, 11, 21, 12, tzinfo=UTC)
WANTED = Demand("u", chain(OWNER.key), None, SINCE, (NEED,), {BackupEngine.MONGODB: "server"})


def good() -> Json:
    """A Backup that protects."""
    body = backup_body(OWNER, "before", [NEED], None)
    body["metadata"] |= {"uid": "b", "creationTimestamp": SINCE.isoformat()}
    at = (SINCE + timedelta(minutes=5)).isoformat()
    verified = {
        "type": "Verified",
        "status": "True",
        "reason": "Verified",
        "message": "",
        "lastTransitionTime": at,
    }
    engine = {"engine": "mongodb", "phase": "Completed", "serverIdentity": "server"}
    body["status"] = {
        "phase": "Completed",
        "id": backup_id("b"),
        "startedAt": SINCE.isoformat(),
        "completedAt": at,
        "conditions": [verified],
        "engines": [engine],
    }
    return body


def test_what_was_asked_for_protects() -> None:
    assert judge(good(), WANTED, SINCE + timedelta(hours=1)).standing is Standing.DONE


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda b: b["metadata"].update(annotations={}), "somebody else"),
        (lambda b: b["metadata"].update(creationTimestamp=(SINCE - 2 * CLOCKS).isoformat()), "older"),
        (lambda b: b["spec"].update(type="incremental"), "incremental"),
        (lambda b: b["spec"].update(verify="Upload"), "Upload"),
        (lambda b: b["spec"].update(chain="manual"), "chain manual"),
        (lambda b: b["spec"].update(connection={"secretName": "mine"}), "credentials"),
        (lambda b: b["spec"].update(engines=["redis"], mongodb=None), "leaves mongodb out"),
        (lambda b: b["spec"]["mongodb"].update(collections=["db.other"]), "leaves db.users out"),
        (lambda b: b["spec"].update(mongodb={"databases": ["other"]}), "leaves db.users out"),
        (lambda b: b["status"].update(id="of another"), "earlier Backup"),
        (lambda b: b["status"].update(engines=[]), "holds no mongodb"),
        (lambda b: b["status"]["engines"][0].update(phase="Failed"), "holds no mongodb"),
        (lambda b: b["status"]["engines"][0].update(serverIdentity="other"), "another server (other)"),
        (lambda b: b["status"]["engines"][0].pop("serverIdentity"), "another server (unknown)"),
        (lambda b: b["status"].update(conditions=[]), "not verified"),
        (lambda b: b["status"].update(phase="Expired"), "Expired"),
        (lambda b: b["status"].update(phase="PartiallyFailed"), "PartiallyFailed"),
        (lambda b: b.update(spec={"type": "odd"}), "cannot be read"),
    ],
)
def test_what_differs_from_what_was_asked_for_protects_from_nothing(
    change: Callable[[Json], None], why: str
) -> None:
    body = good()
    change(body)
    seen = judge(body, WANTED, SINCE + timedelta(hours=1))
    assert seen.standing is Standing.FAILED
    assert why in seen.message


@pytest.mark.parametrize(
    ("need", "selection", "held"),
    [
        (Need(BackupEngine.MONGODB, databases=("db",)), {}, True),
        (Need(BackupEngine.MONGODB, databases=("db",)), {"databases": ["db", "other"]}, True),
        (Need(BackupEngine.MONGODB, databases=("db",)), {"databases": ["other"]}, False),
        (Need(BackupEngine.MONGODB, databases=("db",)), {"collections": ["db.users"]}, False),
        (Need(BackupEngine.MONGODB), {"databases": ["db"]}, False),
        (Need(BackupEngine.MONGODB), {}, True),
        (NEED, {"databases": ["db"]}, True),
    ],
)
def test_a_backup_protects_what_it_holds(need: Need, selection: Json, held: bool) -> None:
    body = good()
    body["spec"]["mongodb"] = selection
    seen = judge(body, replace(WANTED, needs=(need,)), SINCE + timedelta(hours=1))
    assert (seen.standing is Standing.DONE) is held


@pytest.mark.parametrize(("indices", "held"), [(None, True), (["a-*", "b"], True), (["b"], False)])
def test_a_backup_of_indices_protects_those_that_it_names(indices: list[str] | None, held: bool) -> None:
    need = Need(BackupEngine.ELASTICSEARCH, indices=("a-*",))
    body = good()
    body["spec"] |= {"engines": ["elasticsearch"], "elasticsearch": {"indices": indices} if indices else {}}
    body["spec"].pop("mongodb")
    body["status"]["engines"] = [{"engine": "elasticsearch", "phase": "Completed", "serverIdentity": "es"}]
    wanted = replace(WANTED, needs=(need,), servers={BackupEngine.ELASTICSEARCH: "es"})
    assert (judge(body, wanted, SINCE).standing is Standing.DONE) is held
    assert judge(
        deepcopy(body), replace(wanted, servers={BackupEngine.ELASTICSEARCH: "x"}), SINCE
    ).standing is (Standing.FAILED)


def test_the_clock_of_a_worker_that_is_behind_makes_no_backup_after_backup() -> None:
    body = good()
    body["status"]["completedAt"] = (SINCE - timedelta(days=3)).isoformat()
    assert judge(body, WANTED, SINCE + timedelta(hours=1)).standing is Standing.DONE
    assert judge(body, WANTED, SINCE + FRESH + timedelta(hours=1)).standing is Standing.STALE
