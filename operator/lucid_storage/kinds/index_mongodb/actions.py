"""What can be done about an index, and what can be asked."""

from __future__ import annotations

from dataclasses import dataclass

from lucid_storage.stores.mongodb.types import IndexChange, IndexDefinition


@dataclass(frozen=True, slots=True)
class BuildIndex:
    """Start a build; the server goes on with it whatever happens to the operator."""

    target: str
    name: str
    definition: IndexDefinition

    def describe(self) -> str:
        return f"build the index {self.name} on {self.target}"


@dataclass(frozen=True, slots=True)
class ChangeIndex:
    """Change an index in place."""

    target: str
    name: str
    change: IndexChange

    def describe(self) -> str:
        said = []
        if self.change.hidden is not None:
            said.append("hide" if self.change.hidden else "unhide")
        if self.change.expire_after_seconds is not None:
            said.append(f"set expireAfterSeconds to {self.change.expire_after_seconds} on")
        return f"{' and '.join(said)} the index {self.name} of {self.target}"


@dataclass(frozen=True, slots=True)
class ConvertToUnique:
    """Make an index unique in place: first refuse new duplicates, then check the old ones."""

    target: str
    name: str

    def describe(self) -> str:
        return f"make the index {self.name} of {self.target} unique"


@dataclass(frozen=True, slots=True)
class StopPreparingUnique:
    """Let duplicates in again after a conversion that was given up."""

    target: str
    name: str

    def describe(self) -> str:
        return f"end prepareUnique on the index {self.name} of {self.target}"


@dataclass(frozen=True, slots=True)
class DropIndex:
    """Drop an index that was replaced."""

    target: str
    name: str

    def describe(self) -> str:
        return f"drop the index {self.name} of {self.target}"


@dataclass(frozen=True, slots=True)
class CountExpired:
    """How many documents would a TTL delete at once? Answered with a number, or None when it took too long."""

    date_field: str
    seconds: int


@dataclass(frozen=True, slots=True)
class CheckDuplicates:
    """Do duplicates still stand in the way? Answered with a `DuplicateReport`."""
