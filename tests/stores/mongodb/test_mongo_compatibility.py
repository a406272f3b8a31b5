"""A server between the two steps of an upgrade: its program is new, its feature compatibility version is not yet."""

from collections.abc import Callable

import pytest
from mongo_bed import Connect, index

from lucid_storage.stores.mongodb.types import CollectionOptions
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb


@pytest.mark.parametrize("may_ask", [True, False], ids=["a login that may ask", "a login that may not"])
async def test_indexes_are_made_and_collections_dropped_below_the_feature_compatibility_version(
    private_mongodb: Callable[..., MongoDB], connect: Connect, may_ask: bool
) -> None:
    server = private_mongodb(auth=True)
    server.create_user("team", "secret", [("readWrite", "shop"), ("dbAdmin", "shop")])
    with server.client() as client:
        client.admin.command("setFeatureCompatibilityVersion", "5.0")
    deployment = connect(server.uri if may_ask else server.uri_for("team", "secret"))
    info = await deployment.info()
    assert info.runs(6)
    assert info.compatibility == ((5, 0) if may_ask else None)
    assert info.at_least(6) is not may_ask
    assert await deployment.create_collection("shop", "orders", CollectionOptions())
    await deployment.create_index("shop", "orders", "by_a", index(("a", 1)))
    assert [ix.name for ix in await deployment.indexes("shop", "orders") or ()] == ["_id_", "by_a"]
    found = await deployment.collection("shop", "orders")
    assert found is not None
    assert found.uuid is not None
    assert not await deployment.drop_collection("shop", "orders", "0" * 32)
    assert await deployment.drop_collection("shop", "orders", found.uuid)
    assert await deployment.collection("shop", "orders") is None
