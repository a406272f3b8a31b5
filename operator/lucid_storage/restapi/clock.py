"""Time as an argument, so that caches, buckets and timestamps can be tested."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """The machine's two clocks."""

    def now(self) -> datetime:
        """The time of day, in UTC, whole milliseconds."""
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()
