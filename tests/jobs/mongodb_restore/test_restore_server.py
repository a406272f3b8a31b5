"""The worker of a restore writes into the server that it is for and into no other: a Secret can change meanwhile."""

import asyncio
from typing import Any

import pytest
from restoring import restored
from workshop import Workshop, only

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.mongodb.restore.adapter import MongoRestores
from testbed.stores.mongodb import Client, MongoDB

pytestmark = pytest.mark.mongodb

ELSEWHERE = "0123456789abcdef01234567"


@pytest.fixture
def live() -> dict[str, Any]:
    """What the server has that nobody meant."""
    return {"_id": 1, "s": "live"}


@pytest.fixture
def backup(shop: Workshop, client: Client, database: str, live: dict[str, Any]) -> str:
    client[database].a.insert_one({"_id": 1, "s": "backup"})
    made = shop.back_up("full", ["mongodb"], **only(database))
    client[database].a.replace_one({"_id": 1}, live)
    assert made.id is not None
    return made.id


@pytest.mark.parametrize("asked", [{"planOnly": True}, {"inPlace": False}, {"inPlace": True}])
def test_a_login_that_leads_to_another_server_by_now_is_refused(
    shop: Workshop, client: Client, database: str, backup: str, live: dict[str, Any], asked: dict[str, bool]
) -> None:
    with pytest.raises(LucidError) as refused:
        restored(shop, backup, dropExisting=True, serverIdentity=ELSEWHERE, **asked)
    assert refused.value.reason is Reason.TARGET_CHANGED
    assert ELSEWHERE in refused.value.message
    assert client[database].a.find_one() == live
    assert client[database].list_collection_names() == ["a"]  # no journal, no lease


async def test_the_server_that_it_is_for_is_written(
    shop: Workshop, mongodb: MongoDB, client: Client, database: str, backup: str
) -> None:
    port = MongoRestores(mongodb.uri, label="the test's MongoDB", app_name="lucid-test", guard=lambda: None)
    try:
        identity = await port.identity()
        done = await asyncio.to_thread(restored, shop, backup, dropExisting=True, serverIdentity=identity)
        await port.swap(done.run, [database], drop_existing=True, keep_minutes=0)
    finally:
        await port.close()
    assert client[database].a.find_one() == {"_id": 1, "s": "backup"}
