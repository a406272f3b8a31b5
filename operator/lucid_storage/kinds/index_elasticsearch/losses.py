"""What a lifecycle would delete at once, and who agreed to that. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from lucid_storage.errors import LucidError
from lucid_storage.kinds import consent
from lucid_storage.kinds.index_elasticsearch.desired import ElasticDesired
from lucid_storage.kinds.index_elasticsearch.lifecycle import POLICY_NAME, Phase, deletes_after, phase
from lucid_storage.kinds.index_elasticsearch.months import month_of
from lucid_storage.stores.elasticsearch.types import ElasticIndexState, LifecyclePolicyState


def overdue(
    desired: ElasticDesired, indices: Sequence[ElasticIndexState], now: datetime
) -> tuple[ElasticIndexState, ...]:
    """Indices of the series whose days are over."""
    lifecycle = desired.lifecycle
    if lifecycle is None:
        return ()
    months = ((index, month_of(desired.stem, index.name)) for index in indices)
    return tuple(ix for ix, month in months if month and phase(lifecycle, month, now) is Phase.DELETE)


def caused(
    desired: ElasticDesired,
    found: Sequence[ElasticIndexState],
    policy: LifecyclePolicyState | None,
    *,
    by_policy: bool,
) -> tuple[ElasticIndexState, ...]:
    """Of the overdue ones, those that the policy on the server does not delete anyway."""
    if not by_policy or policy is None or desired.lifecycle is None:
        return tuple(found)
    before = deletes_after(policy.policy)
    if before is None or before > timedelta(days=desired.lifecycle.delete_days):
        return tuple(found)
    return tuple(index for index in found if index.settings.get(POLICY_NAME) != desired.stem)


def refusal(desired: ElasticDesired, lost: Sequence[ElasticIndexState]) -> LucidError | None:
    """None when nothing is lost, or when allowDataLoss names the pattern or its stem."""
    if not lost:
        return None
    given = desired.allow_data_loss
    named = desired.stem if consent.given(given, desired.stem) else desired.pattern
    documents = sum(index.documents for index in lost)
    count = "1 index" if len(lost) == 1 else f"{len(lost)} indices"
    loss = f"delete {count} with {documents} documents at once ({_span(lost)})"
    return consent.demand(given, named, loss)


def _span(lost: Sequence[ElasticIndexState]) -> str:
    first, last = lost[0].name, lost[-1].name
    return first if first == last else f"{first} to {last}"
