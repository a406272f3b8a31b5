"""Key patterns of Redis key spaces, pure: which pattern a key belongs to, and a coarse filter for SCAN.

In a pattern `{x}` stands for one segment, or a part of one: at least one byte, none of them a colon. All
other characters are literal, `*` and `?` included.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_PLACEHOLDER = re.compile(r"\{[^{}:]+\}")
_GLOB_SPECIAL = re.compile(rb"([*?\[\]\\^-])")


def specificity(pattern: str) -> tuple[int, int]:
    """Greater is more specific: the number of literal bytes, then of placeholders.

    When every key of pattern A also matches pattern B, A is at least as specific: a key made from A with
    placeholders filled by bytes that B does not use leaves B's literals nothing but A's literals to match.
    """
    literals = len("".join(_PLACEHOLDER.split(pattern)).encode())
    return literals, len(_PLACEHOLDER.findall(pattern))


def by_specificity(patterns: Sequence[str]) -> tuple[str, ...]:
    """The patterns once each, most specific first; ties in alphabetical order, so that the order is total."""
    return tuple(
        sorted(set(patterns), key=lambda pattern: (*(-part for part in specificity(pattern)), pattern))
    )


class PatternMatcher:
    """Finds the most specific of several patterns that a key matches, in time linear in the key's length."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = by_specificity(patterns)
        alternatives = b"|".join(b"(" + _expression(pattern) + b")" for pattern in self.patterns)
        self._expression = re.compile(alternatives) if self.patterns else None

    def match(self, key: bytes) -> str | None:
        """The pattern that owns `key`, or None."""
        found = self._expression.fullmatch(key) if self._expression else None
        return None if found is None or found.lastindex is None else self.patterns[found.lastindex - 1]


def scan_filter(patterns: Sequence[str]) -> bytes | None:
    """A glob for SCAN's MATCH that no key of `patterns` escapes: their common literal prefix and a star.

    None when they share no prefix. The glob only saves traffic; the matcher decides.
    """
    prefixes = [_PLACEHOLDER.split(pattern, maxsplit=1)[0].encode() for pattern in patterns]
    if not prefixes:
        return None
    first, last = min(prefixes), max(prefixes)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return _GLOB_SPECIAL.sub(rb"\\\1", first[:length]) + b"*" if length else None


def _expression(pattern: str) -> bytes:
    return b":".join(_segment_expression(segment) for segment in pattern.split(":"))


def _segment_expression(segment: str) -> bytes:
    """One segment as a regular expression without backtracking over more than one placeholder.

    A placeholder before a literal ends at the first occurrence of that literal: what follows in the segment
    is another placeholder, which can take up whatever a later occurrence would have left out. The atomic
    group keeps a hostile key from making the search slow.
    """
    literals = [re.escape(literal.encode()) for literal in _PLACEHOLDER.split(segment)]
    if len(literals) == 1:
        return literals[0]
    middle = b"".join(b"(?>[^:]+?" + literal + b")" for literal in literals[1:-1])
    return literals[0] + middle + b"[^:]+" + literals[-1]
