"""Fixtures of the workers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from workshop import Workshop

from testbed.stores.mongodb import MongoDB


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Callable[..., Workshop]]:
    """`workshop(MONGODB_URI=...)`: a destination of its own."""

    def make(**environ: str) -> Workshop:
        made = Workshop(tmp_path, environ)
        made.destination.mkdir()
        made.keys.mkdir()
        (made.keys / "k1").write_bytes(bytes(range(32)))
        return made

    return make


@pytest.fixture
def shop(mongodb: MongoDB, workshop: Callable[..., Workshop]) -> Workshop:
    """For the shared MongoDB."""
    return workshop(MONGODB_URI=mongodb.uri)
