"""The logins that docs/privileges.md names for backups and restores of MongoDB are enough."""

from collections.abc import Callable
from typing import Any

import pytest
from workshop import Workshop

from lucid_storage.archive.manifest import CollectionRecord
from lucid_storage.archive.recorded import Recorded
from lucid_storage.errors import Reason
from lucid_storage.models.orders import RestoreResult

pytestmark = pytest.mark.mongodb
PASSWORD = "a-secret"


def _collections(record: Recorded) -> tuple[CollectionRecord, ...]:
    mongodb = record.manifest.mongodb
    return mongodb.collections if mongodb is not None else ()


def test_the_role_backup_is_enough_for_all_types_and_less_is_said(
    private_mongodb: Any, workshop: Callable[..., Workshop]
) -> None:
    server = private_mongodb(auth=True)
    with server.client() as client:
        client["shop"]["a"].insert_many([{"_id": n} for n in range(100)])
        client.admin.command("createUser", "dumper", pwd=PASSWORD, roles=["backup"])
        client.admin.command("createUser", "reader", pwd=PASSWORD, roles=[{"role": "read", "db": "shop"}])
        client["other"]["a"].insert_one({})
        half = [{"role": "read", "db": name} for name in ("shop", "local", "config")]
        client.admin.command("createUser", "half", pwd=PASSWORD, roles=half)
        grant = {"resource": {"cluster": True}, "actions": ["applyOps"]}
        client.admin.command("createRole", "lucidRestore", privileges=[grant], roles=[])
        roles = ["lucidRestore", *({"role": r, "db": "copy"} for r in ("readWrite", "dbAdmin"))]
        client.admin.command("createUser", "restorer", pwd=PASSWORD, roles=roles)
    shop = workshop(MONGODB_URI=server.uri_for("dumper", PASSWORD))
    full = shop.back_up("full", ["mongodb"])
    assert (full.ok, full.message) == (True, "")
    for kind in ("incremental", "differential"):
        with server.client() as client:
            client["shop"]["a"].update_many({}, {"$inc": {"n": 1}})
        told = shop.back_up(kind, ["mongodb"], type=kind)
        assert told.ok, told.message
    shop.environ["MONGODB_URI"] = server.uri_for("reader", PASSWORD)
    refused = shop.back_up("refused", ["mongodb"])
    assert (refused.ok, refused.reason) == (False, Reason.ACCESS_DENIED)
    assert PASSWORD not in refused.message

    shop.environ["MONGODB_URI"] = server.uri_for("half", PASSWORD)
    part = shop.back_up("part", ["mongodb"])
    assert part.ok, part.message
    assert [c.database for r in shop.records() if r.id == part.id for c in _collections(r)] == ["shop"]
    assert "Only databases that the login may read are in it" in (part.engines[0].message or "")
    assert full.engines[0].message is None

    shop.environ["MONGODB_URI"] = server.uri_for("restorer", PASSWORD)
    order = shop.order(
        "back",
        ["mongodb"],
        backupId=full.id,
        sourceDatabase="shop",
        targetDatabase="copy",
        allowUnknownSpace=True,
    )
    process = shop.start("restore", order)
    _, err = process.communicate(timeout=120)
    restored = RestoreResult.model_validate_json(shop.termination(order).read_text())
    assert restored.ok, (restored.message, err)
    assert restored.loaded_documents == 100
