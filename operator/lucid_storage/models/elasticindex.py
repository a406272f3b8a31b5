"""The Elasticsearch half of an Index: a monthly series of indices."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from lucid_storage.models.base import JsonDoc, SpecModel
from lucid_storage.models.cel import ListSet, Rule, Rules, immutable


class ManagedBy(StrEnum):
    """Who carries out the lifecycle."""

    SERVER = "Server"
    OPERATOR = "Operator"


Days = Annotated[int, Field(ge=1, le=36_500)]


class Lifecycle(SpecModel):
    """Days counted from the end of an index's month. Each one says until when the phase before it lasts."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.hotDays <= self.warmDays && self.warmDays <= self.coldDays && "
            "self.coldDays <= self.deleteDays",
            "The days must ascend: hotDays, warmDays, coldDays, deleteDays.",
        ),
    )

    hot_days: Days = 7
    """Hot until this day, then warm."""
    warm_days: Days = 30
    """Warm until this day, then cold."""
    cold_days: Days = 90
    """Cold until this day."""
    delete_days: Days = 90
    """Deleted on this day."""
    managed_by: ManagedBy = ManagedBy.SERVER
    """Server uses index lifecycle management. Operator makes and deletes monthly indices only; that is also
    what happens where the server has no lifecycle management."""


IndexPattern = Annotated[
    str,
    StringConstraints(min_length=11, max_length=200),
    Rules(
        Rule(
            "self.matches('^[a-z0-9][a-z0-9._-]*-[{]YYYY[.]MM[}]$')",
            "Write the pattern as lower-case letters, digits, - _ and . followed by -{YYYY.MM}, "
            "such as lucid-sessions-{YYYY.MM}.",
        ),
        immutable("pattern"),
    ),
]

AliasName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    Rules(
        Rule(
            "self.matches('^[A-Za-z0-9][A-Za-z0-9._-]*$')",
            "An alias is made of letters, digits, - _ and . and starts with a letter or digit.",
        )
    ),
]


class ElasticIndex(SpecModel):
    """A monthly series of Elasticsearch indices. What is absent is unmanaged."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.aliases) || self.aliases.all(a, a + '-{YYYY.MM}' != self.pattern)",
            "The pattern without its date is the write alias already; remove it from aliases.",
        ),
    )

    pattern: IndexPattern
    """Name of the indices with the month at its end: `lucid-sessions-{YYYY.MM}`. Without the date it is the
    write alias."""
    mappings: JsonDoc | None = None
    """Body of the mappings. Fields are added in place; what needs a reindex is refused."""
    settings: JsonDoc | None = None
    """Index settings, flat or nested."""
    aliases: Annotated[list[AliasName], Field(max_length=16), ListSet()] | None = None
    """Names under which all indices of the series are read."""
    priority: Annotated[int, Field(ge=0, le=2_147_483_647)] | None = None
    """Priority of the template among those that match."""
    lifecycle: Lifecycle | None = None
    """Phases and deletion; absent means unmanaged."""
