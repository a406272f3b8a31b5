"""What a given-up run takes back is what it made: whatever somebody else makes under that name meanwhile stays."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from deployment import Client

from lucid_storage.stores.mongodb.restore.journal import JOURNALS, Direct
from lucid_storage.stores.mongodb.restore.target import Target
from lucid_storage.stores.mongodb.restore.worker_journal import WorkerJournal
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb
SERIES = {"timeField": "t"}


class Overtaken(Target):
    """Somebody does something right before or behind the first drop of one name."""

    def __init__(
        self,
        uri: str,
        name: str,
        before: Callable[[], object] = lambda: None,
        behind: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(uri)
        self._name, self._before, self._behind = name, before, behind
        self._done = False

    def write(
        self, database: str, command: Mapping[str, object], task: str, **more: Any
    ) -> dict[str, object]:
        ours = command.get("drop") == self._name
        if not ours or self._done:
            return super().write(database, command, task, **more)
        self._done = True
        self._before()
        answer = super().write(database, command, task, **more)
        self._behind()
        return answer


def uuid_of(client: Client, database: str, name: str) -> str:
    (found,) = client[database].list_collections(filter={"name": name})
    uuid = found["info"]["uuid"]
    return bytes(uuid if isinstance(uuid, bytes) else uuid.bytes).hex()


def discard(target: Target, database: str, direct: Direct) -> None:
    with target:
        journal = WorkerJournal(target, [database], "r1", {})
        journal.begin({})
        journal.record(direct)
        journal.discard()


@pytest.mark.parametrize("known", [True, False], ids=["its UUID is recorded", "it was being made"])
def test_a_collection_that_takes_the_name_right_before_the_drop_stays(
    mongodb: MongoDB, client: Client, database: str, known: bool
) -> None:
    live = client[database]
    live.create_collection("e")

    def theirs() -> None:
        live.drop_collection("e")
        live.e.insert_one({"_id": "theirs"})

    made = uuid_of(client, database, "e") if known else None
    discard(
        Overtaken(mongodb.uri, "e", before=theirs), database, Direct(database, "e", made, making=not known)
    )
    assert list(live.e.find()) == [{"_id": "theirs"}]


def test_an_empty_one_that_takes_the_name_of_a_dropped_time_series_stays(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    live = client[database]
    live.create_collection("ts", timeseries=SERIES)
    target = Overtaken(mongodb.uri, "ts", behind=lambda: live.create_collection("ts"))
    discard(target, database, Direct(database, "ts", making=True))
    (left,) = live.list_collections(filter={"name": "ts"})
    assert left["type"] == "collection"


@pytest.mark.parametrize("options", [{}, {"timeseries": SERIES}], ids=["plain", "time series"])
def test_what_the_run_made_itself_goes(
    mongodb: MongoDB, client: Client, database: str, options: dict[str, Any]
) -> None:
    live = client[database]
    live.create_collection("e", **options)
    made = uuid_of(client, database, "system.buckets.e" if options else "e")
    discard(Target(mongodb.uri), database, Direct(database, "e", made))
    assert live.list_collection_names(filter={"name": "e"}) == []


def test_a_server_before_6_0_is_sent_no_uuid_which_it_would_refuse() -> None:
    sent: list[Mapping[str, object]] = []

    class Answering(Target):
        wire_version = 13

        def command(
            self, database: str, command: Mapping[str, object], task: str, **more: Any
        ) -> dict[str, object]:
            sent.append(command)
            return {"ok": 1, "maxWireVersion": self.wire_version}

    with Answering("mongodb://127.0.0.1:1/") as target:
        target.drop("shop", "e", b"1" * 16)
        target.wire_version = 17
        target.drop("shop", "e", b"1" * 16)
    assert ["collectionUUID" in command for command in sent if "drop" in command] == [False, True]


def test_a_run_is_taken_back_below_the_feature_compatibility_version_too(
    private_mongodb: Callable[..., MongoDB],
) -> None:
    """Between the two steps of an upgrade the program knows the comparison and refuses it."""
    server = private_mongodb()
    with server.client() as client:
        client.admin.command("setFeatureCompatibilityVersion", "5.0")
        live = client.shop
        live.create_collection("e")
        live.create_collection("live")
        made = uuid_of(client, "shop", "e")
        discard(Target(server.uri), "shop", Direct("shop", "e", made))
        assert set(live.list_collection_names()) == {"live", JOURNALS}
