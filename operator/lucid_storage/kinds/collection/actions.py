"""What can be done about a collection, and what can be asked."""

from __future__ import annotations

from dataclasses import dataclass

from lucid_storage.stores.mongodb.types import (
    CollectionChange,
    CollectionOptions,
    CollectionStats,
    Violations,
)


@dataclass(frozen=True, slots=True)
class CreateCollection:
    """Create the collection with the declared options."""

    target: str
    options: CollectionOptions

    def describe(self) -> str:
        return f"create the collection {self.target}"


@dataclass(frozen=True, slots=True)
class ChangeCollection:
    """Change options in place."""

    target: str
    change: CollectionChange
    named: tuple[str, ...]

    def describe(self) -> str:
        return f"change {', '.join(self.named)} of {self.target}"


@dataclass(frozen=True, slots=True)
class CountViolations:
    """How many documents would the validator refuse? Answered with `Violations`."""

    validator: str
    """The validator as JSON text, so that a question can be compared."""


@dataclass(frozen=True, slots=True)
class CountExpired:
    """How many documents would a TTL delete at once? Answered with a number, or None when it took too long."""

    date_field: str
    seconds: int


@dataclass(frozen=True, slots=True)
class MeasureCollection:
    """How large is it now? Answered with `CollectionStats`."""


Answer = Violations | CollectionStats | int | None
