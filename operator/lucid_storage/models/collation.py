"""Collation: the language's rules for comparing strings, as MongoDB takes them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from lucid_storage.models.base import SpecModel
from lucid_storage.models.cel import Rule


class CaseFirst(StrEnum):
    """Which case sorts first at the third level."""

    UPPER = "upper"
    LOWER = "lower"
    OFF = "off"


class Alternate(StrEnum):
    """Whether blanks and punctuation count."""

    NON_IGNORABLE = "non-ignorable"
    SHIFTED = "shifted"


class MaxVariable(StrEnum):
    """What `shifted` ignores."""

    PUNCT = "punct"
    SPACE = "space"


class Collation(SpecModel):
    """Rules for comparing strings. A field that is absent has the locale's default."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.locale != 'simple' || !(has(self.strength) || has(self.caseLevel) || "
            "has(self.caseFirst) || has(self.numericOrdering) || has(self.alternate) || "
            "has(self.maxVariable) || has(self.normalization) || has(self.backwards))",
            "The locale simple compares bytes and takes no other option; remove the other collation fields.",
        ),
    )

    locale: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    """ICU locale such as en, de@collation=phonebook, or simple."""
    strength: Annotated[int, Field(ge=1, le=5)] | None = None
    """Level of comparison, 1 to 5."""
    case_level: bool | None = None
    """Compare case at strength 1 and 2."""
    case_first: CaseFirst | None = None
    """Which case sorts first."""
    numeric_ordering: bool | None = None
    """Compare digits as numbers."""
    alternate: Alternate | None = None
    """Whether blanks and punctuation count."""
    max_variable: MaxVariable | None = None
    """What `shifted` ignores."""
    normalization: bool | None = None
    """Normalise text before comparing."""
    backwards: bool | None = None
    """Compare diacritics from the end, as some French dictionaries do."""
