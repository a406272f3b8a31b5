"""Index builds that this process waits for. A build belongs to the server: losing the wait loses nothing."""

from __future__ import annotations

from lucid_storage.kinds.longcalls import LongCalls


class IndexBuilds(LongCalls):
    """At most one createIndexes call for each resource; a call's name is its index's."""
