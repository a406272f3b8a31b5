"""A login that may see only some databases: drift is still seen at once, in databases that come into use later too."""

from collections.abc import Callable

import pytest

from testbed.pytest_operator import World
from testbed.stores.mongodb import MongoDB

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

VALIDATOR = {"$jsonSchema": {"required": ["email"]}}


async def test_a_database_that_comes_into_use_later_is_watched_too(
    world: World, private_mongodb: Callable[..., MongoDB]
) -> None:
    server = private_mongodb(auth=True)
    databases = ("shop", "stock")
    server.create_user(
        "team", "secret", [(role, name) for name in databases for role in ("readWrite", "dbAdmin")]
    )
    operator = world.start_operator(MONGODB_URI=server.uri_for("team", "secret"))
    for database in databases:
        await world.create("Collection", database, {"database": database, "validator": VALIDATOR})
        await world.ready("Collection", database)

        async def watched() -> bool:
            return operator.metric("lucid_change_stream_up") == 1

        await world.until(watched, 20, "the change stream to be open")
    with server.client() as client:
        client.stock.command({"collMod": "stock", "validator": {}})

    async def corrected() -> bool:
        return operator.metric("lucid_drift_corrections_total") == 1

    # Sweeps come every ten minutes while a stream is open, so only the stream can be this quick.
    await world.until(corrected, 15, "the drift in the second database to be corrected")
