"""The shared replica set of three members, a database of a test's own in it, and its chain of backups."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from chain_bed import Chain
from pymongo import MongoClient

from lucid_storage.models.backup import MongoSelection
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


@pytest.fixture
def chain(mongodb_rs3: MongoDB, db: str, tmp_path: Path) -> Iterator[Chain]:
    with closing(Chain(tmp_path, mongodb_rs3.uri, MongoSelection(databases=[db]))) as made:
        yield made
