"""Consent to data loss: counted first, refused until allowDataLoss names the target. Pure."""

from __future__ import annotations

from lucid_storage.errors import LucidError, Reason


def given(allow_data_loss: str | None, target: str) -> bool:
    """Whether allowDataLoss names the target, alone or in a list separated by commas."""
    return target in {part.strip() for part in (allow_data_loss or "").split(",")}


def demand(allow_data_loss: str | None, target: str, loss: str) -> LucidError | None:
    """The refusal, or None when the change may be made. `loss` says what would be lost: "delete 12 documents"."""
    if not given(allow_data_loss, target):
        return LucidError(
            f"This change would {loss}. If that is meant, set allowDataLoss: {target}.",
            reason=Reason.DATA_LOSS_REFUSED,
        )
    return None
