"""What a swap could not put in place, in words for the Restore's condition. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from lucid_storage.errors import LucidError
from lucid_storage.stores.mongodb.restore.journal import Pair


def lost(pair: Pair, run: str, there: Mapping[str, str]) -> str:
    """Somebody dropped or replaced what was staged, before its rename or after it. `there` are UUIDs by name."""
    name = f"{pair.database}.{pair.name}"
    if pair.live_uuid is not None and there.get(pair.name) == pair.live_uuid:
        return f"{name} is as it was before, since somebody dropped what was staged for it"
    what = "replaced" if pair.name in there else "dropped"
    return f"{name} was {what} by somebody during the swap{_kept(pair, run, there)}"


def refused(pair: Pair, run: str, there: Mapping[str, str], error: LucidError) -> str:
    """The server does not give it its name."""
    staged = f"; what was restored lies in {pair.database}.{pair.staged}" if pair.staged in there else ""
    words = error.message.rstrip(".")
    return f"{pair.database}.{pair.name} is not in place ({words}){staged}{_kept(pair, run, there)}"


def _kept(pair: Pair, run: str, there: Mapping[str, str]) -> str:
    old = pair.old(run)
    if pair.live_uuid is None or there.get(old) != pair.live_uuid:
        return ""
    return f"; what was there before it stays as {pair.database}.{old}"
