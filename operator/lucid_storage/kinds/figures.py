"""Figures in status: they move rarely, so that a busy database does not mean a busy API server. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

REFRESH = timedelta(minutes=15)
CHANGE = 0.10


def due(taken: datetime | None, now: datetime) -> bool:
    """Whether figures may move again: at most every 15 minutes."""
    return taken is None or now - taken >= REFRESH


def moved(before: int | None, after: int) -> bool:
    """Whether a figure moved by 10 percent or more."""
    if before is None:
        return True
    return abs(after - before) >= max(1, CHANGE * before)


def size(count: int) -> str:
    """Bytes for people, in binary units."""
    value = float(count)
    for unit in ("B", "Ki", "Mi", "Gi"):
        if value < 1024:
            return f"{value:.0f}{unit}" if unit == "B" or value >= 100 else f"{value:.1f}{unit}"
        value /= 1024
    return f"{value:.1f}Ti"
