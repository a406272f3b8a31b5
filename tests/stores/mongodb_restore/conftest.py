"""Fixtures of the tests of restores in MongoDB."""

from collections.abc import Iterator

import pytest

from testbed.stores.mongodb import Client, MongoDB


@pytest.fixture
def client(mongodb: MongoDB) -> Iterator[Client]:
    with mongodb.client() as made:
        yield made
