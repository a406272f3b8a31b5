"""Is it the same server? Pure.

An identity is the server's own id where the login may read it. Where it may not, it is
`<topology>/<set name>/<hosts>`, and hosts come and go: one host in common is then enough.
"""

from __future__ import annotations

IDENTITY_LIMIT = 256
"""Characters that status has room for."""


def same_server(pinned: str, now: str) -> bool:
    """Whether a resource that was settled on `pinned` is still on the same server."""
    if pinned == now:
        return True
    before, after = pinned.rsplit("/", 1), now.rsplit("/", 1)
    if len(before) != 2 or len(after) != 2 or before[0] != after[0]:
        return False
    return bool(set(before[1].split(",")) & set(after[1].split(",")))


def surely_another(mine: str | None, theirs: object) -> bool:
    """Whether both are servers' own ids and differ. Hosts prove nothing: one server has many names."""
    if not mine or not isinstance(theirs, str) or not theirs or "/" in mine or "/" in theirs:
        return False
    return mine != theirs


def kept(identity: str) -> str:
    """What status keeps: an id as it is, and of hosts as many as there is room for, since one in common is enough."""
    if len(identity) <= IDENTITY_LIMIT:
        return identity
    cut = identity[:IDENTITY_LIMIT]
    return cut.rsplit(",", 1)[0] if "," in cut else cut
