"""A server that crashed can count nothing in a collection that holds documents; what is dropped is looked into."""

from typing import Any, cast

import pytest

from lucid_storage.stores.mongodb.connection import Connection
from lucid_storage.stores.mongodb.restore.commands import Commands
from lucid_storage.stores.mongodb.restore.target import Target

Answer = dict[str, Any]


class Crashed:
    """Its count is wrong; what it holds is there."""

    def __init__(self, held: list[Answer]) -> None:
        self.held = held

    def answer(self, command: Answer) -> Answer:
        return {"n": 0} if "count" in command else {"cursor": {"firstBatch": self.held[: command["limit"]]}}

    def attempt(self, task: str, **_: str) -> str:
        return task

    async def read(self, database: str, command: Answer, attempt: str) -> Answer:
        return self.answer(command)

    def command(self, database: str, command: Answer, task: str, *, expected: object) -> Answer:
        return self.answer(command)


HELD: list[tuple[list[Answer], int]] = [([{"_id": 1}, {"_id": 2}], 1), ([], 0)]


@pytest.mark.parametrize(("held", "counted"), HELD)
async def test_a_count_of_nothing_is_read_and_not_believed(held: list[Answer], counted: int) -> None:
    server = Crashed(held)
    assert await Commands(cast("Connection", server)).count("shop", "a", "collection") == counted
    assert Target.count(cast("Target", server), "shop", "a") == counted
