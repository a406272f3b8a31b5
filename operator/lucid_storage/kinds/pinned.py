"""A resource stays where it was applied."""

from __future__ import annotations

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds.contract import Desired, Status
from lucid_storage.kinds.identity import same_server


def check_pinned(desired: Desired, status: Status, identity: str) -> None:
    """A changed setting never moves a resource silently to another place. Raises LucidError(TargetChanged)."""
    if status.database is not None and desired.database != status.database:
        raise LucidError(
            f'This resource was applied to the database "{status.database}", and its default is now'
            f' "{desired.database}". Set spec.database, or delete and create the resource to move it.',
            reason=Reason.TARGET_CHANGED,
        )
    if status.server_identity is not None and not same_server(status.server_identity, identity):
        raise LucidError(
            f"The connection now leads to another server ({identity}) than the one this resource was applied to"
            f" ({status.server_identity}). Delete and create the resource to move it.",
            reason=Reason.TARGET_CHANGED,
        )
