"""Restores by real workers in hostile company: others that write there, odd names."""

import pytest
from test_restore_worker import documents, restore, swap
from workshop import Workshop, only

from lucid_storage.errors import Reason
from lucid_storage.models.orders import RestoreResult
from lucid_storage.stores.mongodb.restore.holding import Leases
from lucid_storage.stores.mongodb.restore.journal import JOURNALS
from lucid_storage.stores.mongodb.restore.lease import LEASE
from testbed.stores.mongodb import Client, MongoDB

pytestmark = pytest.mark.mongodb


async def test_names_with_dots_and_letters_of_any_alphabet_come_back(
    shop: Workshop, client: Client, mongodb: MongoDB, database: str
) -> None:
    source = client[database]
    names = ["orders.eu.2026", "Bücher", "目录", "a b", "lucid"]
    for name in names:
        source[name].insert_one({"_id": name})
        source[name].create_index("x", name="x.ß")
    source.command({"create": "Übersicht", "viewOn": "orders.eu.2026", "pipeline": []})
    full = shop.back_up("full", ["mongodb"], **only(database))
    source["目录"].rename("目录.neu")
    source.create_collection("später").insert_one({"_id": 1})
    last = shop.back_up("later", ["mongodb"], type="incremental", **only(database))
    assert last.ok, last.message
    wanted = documents(client, database)
    target = f"{database}_größe"
    try:
        for in_place in (False, True):
            asked = {"inPlace": in_place, "dropExisting": in_place}
            told = restore(shop, last.id, targetDatabase=target, **asked)
            assert told.ok, told.message
            await swap(mongodb.uri, told, drop_existing=in_place)
            assert documents(client, target) == wanted
            for name in ("Bücher", "orders.eu.2026", "目录.neu"):
                assert "x.ß" in client[target][name].index_information()
        chosen = restore(
            shop, full.id, targetDatabase=f"{target}2", collections=["目录", "orders.eu.2026"], planOnly=True
        )
        assert chosen.plan is not None
        assert [t.documents for t in chosen.plan.targets] == [1, 1]
    finally:
        client.drop_database(target)


def test_another_restore_of_the_database_is_waited_for_and_what_it_left_is_looked_at(
    shop: Workshop, client: Client, mongodb: MongoDB, database: str
) -> None:
    live = client[database]
    live.a.insert_one({"_id": 1})
    full = shop.back_up("full", ["mongodb"], **only(database))
    order = {**shop.order("back", ["mongodb"]), "backupId": full.id, "dropExisting": True}
    del order["id"], order["type"]
    with Leases(mongodb.uri, [database], "another"):
        process = shop.start("restore", order)
        assert process.stderr is not None
        assert any("it is waited for" in line for line in process.stderr)
        live.drop_collection("a")
        live.command({"create": "a", "viewOn": "x", "pipeline": []})
    live[JOURNALS].update_one({"_id": LEASE}, {"$unset": {"until": 1}})  # its swap is done
    process.communicate(timeout=60)
    told = RestoreResult.model_validate_json(shop.termination(order).read_text())
    assert (told.ok, told.reason) == (False, Reason.RESTORE_BLOCKED)
    assert "is a view now" in told.message
