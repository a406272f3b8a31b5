"""Is it the same server? Pure.

An identity is the server's own id where the login may read it. Where it may not, it is
`<topology>/<set name>/<hosts>`, and hosts come and go: one host in common is then enough.
"""

from __future__ import annotations


def same_server(pinned: str, now: str) -> bool:
    """Whether a resource that was settled on `pinned` is still on the same server."""
    if pinned == now:
        return True
    before, after = pinned.rsplit("/", 1), now.rsplit("/", 1)
    if len(before) != 2 or len(after) != 2 or before[0] != after[0]:
        return False
    return bool(set(before[1].split(",")) & set(after[1].split(",")))
