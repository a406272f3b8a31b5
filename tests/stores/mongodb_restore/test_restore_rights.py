"""What a login needs to restore into its own database, and nothing more."""

from collections.abc import Callable

import pytest
from deployment import content, contents_of, oplog, staged, take

from lucid_storage.errors import AccessDeniedError
from lucid_storage.stores.mongodb.restore.adapter import MongoRestores
from lucid_storage.stores.mongodb.restore.entries import bound
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb
END = bound(2**31)


async def test_its_own_database_and_applyops_are_enough(
    private_mongodb: Callable[..., MongoDB],
) -> None:
    server = private_mongodb(auth=True)
    server.create_user("bare", "secret", [("readWrite", "shop"), ("dbAdmin", "shop")])
    with server.client() as client:
        replaying = {"resource": {"cluster": True}, "actions": ["applyOps"]}
        client.admin.command({"createRole": "replayer", "privileges": [replaying], "roles": []})
        server.create_user(
            "owner", "secret", [("readWrite", "shop"), ("dbAdmin", "shop"), ("replayer", "admin")]
        )
        client.shop.a.insert_many([{"_id": n} for n in range(20)])
        client.shop.a.create_index("x")
        base = take(client, "shop")
        client.shop.a.update_one({"_id": 1}, {"$set": {"x": 1}})
        client.shop.a.delete_one({"_id": 2})
        client.shop.late.insert_one({"_id": 1})
        entries, expected = oplog(client, base.moment), content(client, "shop")
        uri = server.uri_for("owner", "secret")
        staging = staged(uri, base, entries, END, {"shop": "shop"})
        assert contents_of(client, staging) == expected
        with pytest.raises(AccessDeniedError):
            staged(server.uri_for("bare", "secret"), base, entries, END, {"shop": "shop"}, run="r2")
        port = MongoRestores(uri, label="owner", app_name="lucid-test", guard=lambda: None)
        try:
            assert await port.missing_rights(["shop"]) == ()
            assert "insert on other" in await port.missing_rights(["shop", "other"])
            assert await port.occupants(["shop"])
            assert await port.discard("r1", ["shop"])
        finally:
            await port.close()
        port = MongoRestores(server.uri_for("bare", "secret"), label="bare", app_name="t", guard=lambda: None)
        try:
            assert await port.missing_rights(["shop"]) == ("applyOps on the cluster",)
        finally:
            await port.close()
