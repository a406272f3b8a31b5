"""What a deleted Restore had replaced goes when its time is over, and nothing goes that may be somebody else's."""

import json
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from deployment import Client, load
from test_restore_swap import RUN, CrashError, Crashing, backup_of, restores

from lucid_storage.errors import AccessDeniedError, StoreUnavailableError
from lucid_storage.kinds.connections import Connections
from lucid_storage.kinds.restore.sweep import OldSweep
from lucid_storage.kube.client import Json
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.settings import Settings
from lucid_storage.stores.mongodb.restore.adapter import MongoRestores
from lucid_storage.stores.mongodb.restore.lineage import everything
from lucid_storage.stores.mongodb.restore.overdue import PAGE, Overdue, OverdueRun
from lucid_storage.stores.mongodb.restore.staging import Staging
from lucid_storage.stores.mongodb.restore.target import Target
from lucid_storage.stores.mongodb.types import Topology
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb

UID = "uid-back"


class Objects:
    """An API server that knows one Restore, or none."""

    def __init__(self, uid: str | None = None) -> None:
        self.uid = uid
        self.asked: list[Key] = []

    async def get(self, key: Key) -> Json | None:
        self.asked.append(key)
        return None if self.uid is None else {"metadata": {"uid": self.uid}}


class DeathError(BaseException):
    """The process died, and nothing in it can go on."""


class Dying:
    """The guard of a process that dies at its second write."""

    def __init__(self) -> None:
        self._crash = Crashing(1)

    def __call__(self) -> None:
        try:
            self._crash()
        except CrashError as error:
            raise DeathError from error


class NoConnections:
    """Nobody else's credentials are in use."""

    deployments: tuple[()] = ()


def swept(
    uri: str,
    *,
    objects: Objects | None = None,
    cluster: str,
    known: str | None = None,
    namespaces: tuple[str, ...] = (),
    guard: Callable[[], None] = lambda: None,
    ahead: timedelta = timedelta(),
    served: dict[str, Any] | None = None,
) -> OldSweep:
    async def ours() -> str:
        return cluster

    return OldSweep(
        cast("Connections", NoConnections()),
        lambda address, label: MongoRestores(address, label=label, app_name="lucid-test", guard=guard),
        Settings.read(
            {
                "WORKER_IMAGE": "lucid-storage:test",
                "MONGODB_URI": uri,
                **({} if served is None else {"SERVED_NAMESPACES": json.dumps(served)}),
            }
        ),
        objects or Objects(),
        cluster=ours,
        find=lambda uid: cast("Resource", uid) if uid == known else None,
        namespaces=namespaces,
        now=lambda: datetime.now(UTC) + ahead,
    )


def reserved(client: Client, database: str) -> list[str]:
    """What a swap left; `lucid_stg_journal` only while a run stands in it."""
    names = [n for n in client[database].list_collection_names() if n.startswith("lucid_old_")]
    runs = [str(d["_id"]) for d in client[database].lucid_stg_journal.find({"pairs": {"$exists": True}})]
    return sorted(names) + runs


async def replaced(
    uri: str, client: Client, database: str, *, keep_minutes: int = 0, consent: bool = True
) -> None:
    """A Restore of the cluster that is called as the database went live, and its object is not looked at any more."""
    base = backup_of(client, database)
    if not consent:
        client[database].a.delete_many({})
    owner = {"cluster": database, "namespace": "shop", "name": "back", "uid": UID}
    with Target(uri) as target:
        staging = Staging(target, RUN, {database: database}, everything([database]), base.moment, owner=owner)
        load(staging, base)
        staging.ready(staging.finish())
    async with restores(uri) as port:
        await port.swap(RUN, [database], drop_existing=consent, keep_minutes=keep_minutes)


async def test_its_time_over_it_goes_with_its_journal_and_the_live_data_stay(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    await replaced(mongodb.uri, client, database)
    assert reserved(client, database) == [f"lucid_old_{RUN}_1", RUN]
    live = list(client[database].a.find())
    objects = Objects()
    await swept(mongodb.uri, objects=objects, cluster=database).sweep()
    assert reserved(client, database) == []
    assert objects.asked == [Key("restores", "shop", "back")]
    assert (list(client[database].a.find()), client[database].c.count_documents({})) == (live, 1)


NOT_YET: dict[str, dict[str, Any]] = {
    "its Restore is known": {"known": UID},
    "its Restore is there": {"objects": Objects(UID)},
    "another cluster's": {"cluster": "another"},
    "a namespace of another operator": {"namespaces": ("other",)},
    "its time is over by the server's clock alone": {"ahead": timedelta(hours=-1)},
}


async def test_nothing_goes_that_has_an_owner_or_may_have_one(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    await replaced(mongodb.uri, client, database)
    before = reserved(client, database)
    for why, more in NOT_YET.items():
        await swept(mongodb.uri, **{"cluster": database, **more}).sweep()
        assert reserved(client, database) == before, why
    made_anew = Objects("uid-of-another")
    await swept(mongodb.uri, objects=made_anew, cluster=database, namespaces=("shop",)).sweep()
    assert reserved(client, database) == []


async def test_it_stays_its_time_by_the_servers_clock(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    await replaced(mongodb.uri, client, database, keep_minutes=60)
    await swept(mongodb.uri, cluster=database).sweep()
    assert len(reserved(client, database)) == 2
    async with restores(mongodb.uri) as port:  # the swap is gone on with: its time is not counted anew
        (before,) = client[database].lucid_stg_journal.find({"_id": RUN})
        await port.swap(RUN, [database], drop_existing=True, keep_minutes=0)
        (after,) = client[database].lucid_stg_journal.find({"_id": RUN})
        assert after["until"] == before["until"]
    client[database].lucid_stg_journal.update_one(
        {"_id": RUN}, [{"$set": {"until": {"$subtract": ["$$NOW", 1]}}}]
    )
    await swept(mongodb.uri, cluster=database).sweep()
    assert reserved(client, database) == []


async def test_a_journal_that_names_no_time_is_nobodys_to_drop(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    await replaced(mongodb.uri, client, database)
    client[database].lucid_stg_journal.update_one({"_id": RUN}, {"$unset": {"until": 1}})
    await swept(mongodb.uri, cluster=database).sweep()
    assert len(reserved(client, database)) == 2


async def test_what_was_written_into_it_without_consent_stays(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    await replaced(mongodb.uri, client, database, consent=False)
    client[database][f"lucid_old_{RUN}_1"].insert_one({"_id": "late"})
    await swept(mongodb.uri, cluster=database).sweep()
    assert reserved(client, database) == [f"lucid_old_{RUN}_1"]
    assert client[database][f"lucid_old_{RUN}_1"].count_documents({}) == 1


@pytest.mark.parametrize("pairs", [[{}], [{"number": "1"}]])
async def test_a_journal_that_nobody_can_read_keeps_no_other_one(
    mongodb: MongoDB, client: Client, database: str, pairs: object
) -> None:
    await replaced(mongodb.uri, client, database)
    (whole,) = client[database].lucid_stg_journal.find({"_id": RUN})
    client[database].lucid_stg_journal.insert_one({**whole, "_id": "0-forged", "pairs": pairs})
    await swept(mongodb.uri, cluster=database).sweep()
    assert reserved(client, database) == ["0-forged"]


async def test_another_collection_of_that_name_stays(mongodb: MongoDB, client: Client, database: str) -> None:
    await replaced(mongodb.uri, client, database)
    client[database][f"lucid_old_{RUN}_1"].drop()
    client[database][f"lucid_old_{RUN}_1"].insert_one({"_id": "somebody's"})
    await swept(mongodb.uri, cluster=database).sweep()
    assert reserved(client, database) == [f"lucid_old_{RUN}_1"]


async def test_whoever_dies_in_it_is_followed_by_the_next_sweep(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    await replaced(mongodb.uri, client, database)
    with pytest.raises(DeathError):  # behind the drop, before the journal goes
        await swept(mongodb.uri, cluster=database, guard=Dying()).sweep()
    assert reserved(client, database) == [RUN]
    await swept(mongodb.uri, cluster=database).sweep()
    assert reserved(client, database) == []


async def test_runs_that_may_not_go_keep_no_later_one(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    """More of them than are read at once, and before it in every order."""
    await replaced(mongodb.uri, client, database)
    over, journals = datetime(2026, 1, 1, tzinfo=UTC), client[database].lucid_stg_journal
    own = journals.find_one_and_delete({"_id": RUN})
    for namespace, uid in (("shop", "uid-there"), ("other", UID)):
        owner = {"cluster": database, "namespace": namespace, "name": "n", "uid": uid}
        journals.insert_many(
            {"_id": f"0-{namespace}-{n:03}", "state": "swapped", "owner": owner, "until": over}
            for n in range(PAGE)
        )
    journals.insert_one(own)
    await swept(mongodb.uri, cluster=database, known="uid-there", namespaces=("shop",)).sweep()
    assert reserved(client, database) == []
    async with restores(mongodb.uri) as port:
        left = await port.overdue(database, database, namespaces=("other",))
        assert [run.namespace for run in left] == ["other"] * PAGE
        assert await port.overdue(database, database, namespaces=("other",), after=left[-1].run) == ()


class Login:
    """One login of a server, of which it says what it was asked."""

    def __init__(self, identity: str = "rs", *, denied: bool = False, runs: tuple[str, ...] = ()) -> None:
        self._identity, self._denied, self._runs = identity, denied, runs
        self.asked: list[str] = []
        self.dropped: list[str] = []
        self.refused: tuple[str, ...] = ()
        self.closed = 0

    async def identity(self) -> str:
        return self._identity

    async def restorable_databases(self) -> tuple[str, ...]:
        return ("shop",)

    async def overdue(
        self, database: str, cluster: str, *, namespaces: Collection[str] = (), after: str = ""
    ) -> tuple[OverdueRun, ...]:
        self.asked.append(after)
        if self._denied:
            raise AccessDeniedError("The login lacks find; grant it.")
        behind = [run for run in self._runs if run > after]
        return tuple(OverdueRun(run, database, "shop", "n", f"uid-{run}", 0.0) for run in behind)

    async def drop_old(self, run: str, databases: list[str]) -> tuple[str, ...]:
        if run in self.refused:
            raise AccessDeniedError("The login lacks remove; grant it.")
        self.dropped.append(run)
        return ()

    async def close(self) -> None:
        self.closed += 1


async def looked(*logins: Login) -> None:
    """One sweep over them."""
    opened = {f"mongodb://127.0.0.1:{n}/": login for n, login in enumerate(logins, 1)}
    sweep = swept(next(iter(opened)), cluster="c")
    engine = SimpleNamespace(name="mongodb")
    more = [SimpleNamespace(engine=engine, address=a, label=a, down=None) for a in opened]
    sweep._connections = cast("Connections", SimpleNamespace(deployments=more))
    sweep._open_restores = lambda address, label: cast("Any", opened[address])
    await sweep.sweep()
    assert [login.closed for login in logins] == [1] * len(logins)


async def test_one_that_cannot_be_dropped_keeps_no_other_one() -> None:
    login = Login(runs=("r1", "r2"))
    login.refused = ("r1",)
    await looked(login)
    assert login.dropped == ["r2"]


async def test_what_one_login_may_not_drop_or_read_another_one_does() -> None:
    reader, blind, owner = Login(runs=("r1",)), Login(denied=True), Login(runs=("r1",))
    reader.refused = ("r1",)
    await looked(reader, blind, owner)
    assert owner.dropped == ["r1"]


async def test_a_database_of_one_server_that_holds_nothing_is_read_once() -> None:
    first, second, elsewhere = Login(), Login(), Login("another")
    await looked(first, second, elsewhere)
    assert (first.asked, second.asked, elsewhere.asked) == ([""], [], [""])


async def test_a_server_that_is_away_ends_no_sweep() -> None:
    class Away(Login):
        async def overdue(self, *_: object, **__: object) -> tuple[OverdueRun, ...]:
            self.asked.append("")
            raise StoreUnavailableError("MongoDB does not answer.")

    away, there = Away("a"), Login("b", runs=("r1",))
    await looked(away, there)
    assert (len(away.asked), there.dropped) == (1, ["r1"])


async def test_a_sharded_deployment_is_not_looked_at() -> None:
    class Sharded:
        async def info(self) -> Any:
            return SimpleNamespace(topology=Topology.SHARDED)

    assert await Overdue(cast("Any", SimpleNamespace(connection=Sharded()))).databases() == ()
