"""Which keys of a data set a restore brings back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate

from lucid_storage.stores.redis.patterns import PatternMatcher

DEFAULT_EXCLUDED_PREFIXES = ("lucid:session:", "lucid:ratelimit:", "lucid:lock:")
"""Sessions, rate limits and locks of the data layer: whatever begins so stays out of a restore that chooses nothing.

A restored session could be one that was revoked since, a restored lock one that nobody holds or releases.
"""


class KeyChoice:
    """Decides key by key.

    `patterns` are those that come back (None: all), `excluded` those that do not (None: the default ones, unless
    `patterns` chooses), `allowed` globs of the keys that the namespace may use at all.
    """

    def __init__(
        self,
        patterns: Sequence[str] | None = None,
        excluded: Sequence[str] | None = None,
        allowed: Sequence[str] = ("*",),
    ) -> None:
        self.everything = patterns is None
        self._wanted = PatternMatcher(patterns) if patterns is not None else None
        self._excluded = PatternMatcher(excluded) if excluded else None
        defaults = patterns is None and excluded is None
        self._prefixes = tuple(p.encode() for p in DEFAULT_EXCLUDED_PREFIXES) if defaults else ()
        globs = "|".join(f"(?:{translate(glob)})" for glob in allowed)
        self._allowed = None if "*" in allowed else re.compile(globs.encode())

    def wants(self, key: bytes) -> bool:
        if self._prefixes and key.startswith(self._prefixes):
            return False
        if self._allowed is not None and self._allowed.fullmatch(key) is None:
            return False
        if self._wanted is not None and self._wanted.match(key) is None:
            return False
        return self._excluded is None or self._excluded.match(key) is None
