"""The shared replica set of three members, and a database of a test's own in it."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient

from testbed.stores.mongodb import MongoDB


@pytest.fixture
def client(mongodb_rs3: MongoDB) -> Iterator[MongoClient[Any]]:
    with mongodb_rs3.client() as client:
        yield client


@pytest.fixture
def db(client: MongoClient[Any]) -> Iterator[str]:
    name = f"dump_{uuid.uuid4().hex[:10]}"
    yield name
    client.drop_database(name)
