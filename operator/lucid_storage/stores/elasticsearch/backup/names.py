"""Names of indices: which ones a namespace may use, and which ones belong to a restore. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from lucid_storage.errors import NotAllowedError, Reason
from lucid_storage.models.meta import RESERVED_PREFIXES

MARK = "lucid-storage-restore"
"""Key in the `_meta` of a mapping: this index was made by a restore or by the check of a backup."""
SCRATCH_PREFIX = RESERVED_PREFIXES[0]
_DATE = re.compile(r"-(19|20)[0-9]{2}(\.[0-9]{2}){0,2}$", re.ASCII)
_RUN = re.compile(r"[^a-z0-9]")
_STAGE = re.compile(r"(.+)-r-[0-9a-f]{12}")
"""Runs of restores have ids of twelve hexadecimal digits."""
_MANY = "\0" * 300
"""Stands for what a `*` may become; no name is as long, so that no pattern of ? signs matches it by chance."""


class Allowed:
    """What a namespace may use, as patterns of series (by their write alias) or of indices."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)

    def name(self, name: str) -> bool:
        """An index or alias, also by its series: `lucid-sessions` covers `lucid-sessions-2026.11`."""
        return any(
            fnmatchcase(each, pattern) for each in (name, _DATE.sub("", name)) for pattern in self.patterns
        )

    def expression(self, pattern: str) -> bool:
        """Whether all names that a pattern of Elasticsearch can match are allowed."""
        return any(fnmatchcase(pattern.replace("*", _MANY), allowed) for allowed in self.patterns)

    def check(self, name: str) -> None:
        """Raises NotAllowedError(IndexNotAllowed)."""
        if not self.name(name):
            raise self.refusal(name)

    def refusal(self, name: str) -> NotAllowedError:
        """What a namespace is told that asked for a name which it may not use."""
        return NotAllowedError(
            f"The namespace may not use the index {name}; it may use {', '.join(self.patterns) or 'none'}.",
            reason=Reason.INDEX_NOT_ALLOWED,
        )


def run_part(run: str) -> str:
    """The run's id as it stands in names: lower-case letters and digits."""
    return _RUN.sub("", run.lower())[:32]


def staged_name(target: str, run: str) -> str:
    """Where a restore loads the index that is to become `target`."""
    return f"{target}-r-{run_part(run)}"


def stage_of(name: str) -> str | None:
    """The name that an index of this one became, if a restore named it; None when none would have."""
    found = _STAGE.fullmatch(name)
    return None if found is None else found[1]


def live_alias(name: str) -> str:
    """An alias that a staged index gets in the call which makes it live, until it is finished."""
    return f"{name}-live"


def held_alias(name: str) -> str:
    """An alias that a staged index has until it is made live: the call which does so takes it away, and fails without.

    So whoever takes it away first decides whether the index goes live or is removed.
    """
    return f"{name}-held"


def gone_alias(name: str) -> str:
    """An alias that a staged index gets instead, when somebody is about to remove it."""
    return f"{name}-gone"


def scratch_name(run: str, number: int) -> str:
    """Where the check of a backup loads one index."""
    return f"{SCRATCH_PREFIX}{run_part(run)}_{number}"


def is_reserved(name: str) -> bool:
    """Names that only restores and checks use, and those of the server itself."""
    return name.startswith((*RESERVED_PREFIXES, "."))


def selected(name: str, aliases: Sequence[str], expressions: Sequence[str]) -> bool:
    """Whether an index is meant: by name or pattern, or by the whole name of an alias."""
    return not expressions or any(
        fnmatchcase(name, expression) or expression in aliases for expression in expressions
    )


def renamed(name: str, rename_to: str | None) -> str:
    """The name that an index is restored under."""
    return rename_to.replace("{index}", name) if rename_to else name
