"""Processes that are killed behind a number of writes: they do nothing more, and give nothing back."""

from collections.abc import Mapping
from typing import Any

from lucid_storage.stores.mongodb.restore.target import Target


class KilledError(Exception):
    """The process is gone."""


class Mortal(Target):
    """A worker's server that it reaches for so many writes."""

    left = 10**9

    def write(
        self, database: str, command: Mapping[str, object], task: str, **more: Any
    ) -> dict[str, object]:
        if self.left == 0:
            raise KilledError
        self.left -= 1
        return super().write(database, command, task, **more)


class Dying:
    """A guard of an operator that is killed behind so many commands."""

    def __init__(self, commands: int) -> None:
        self.left = commands

    def __call__(self) -> None:
        if self.left == 0:
            raise KilledError
        self.left -= 1
