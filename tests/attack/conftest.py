from collections.abc import Iterator
from typing import Any

import pytest
from pymongo.database import Database

from testbed.pytest_operator import World
from testbed.stores.mongodb import MongoDB


@pytest.fixture
def db(mongo_world: World, mongodb: MongoDB) -> Iterator[Database[Any]]:
    """The world's database in the shared MongoDB."""
    with mongodb.client() as client:
        yield client[mongo_world.environment["MONGODB_DATABASE"]]
