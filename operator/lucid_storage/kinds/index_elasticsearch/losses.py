"""What a lifecycle would delete at once, and who agreed to that. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from lucid_storage.errors import LucidError
from lucid_storage.kinds import consent
from lucid_storage.kinds.index_elasticsearch.desired import ElasticDesired
from lucid_storage.kinds.index_elasticsearch.lifecycle import Phase, phase
from lucid_storage.kinds.index_elasticsearch.months import month_of
from lucid_storage.kinds.index_elasticsearch.series import is_newcomer
from lucid_storage.stores.elasticsearch.ages import POLICY_NAME, deletes_after, origin
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


def left_alone(
    desired: ElasticDesired,
    found: Sequence[ElasticIndexState],
    oldest: str | None,
    *,
    by_policy: bool,
) -> tuple[ElasticIndexState, ...]:
    """Of the overdue ones, those that turned up after the lifecycle was agreed to: nobody counted them.

    `oldest` is the oldest month that the series had. One that follows the policy is the server's to delete, whatever
    is done here.
    """
    return tuple(
        index
        for index in found
        if not (by_policy and index.settings.get(POLICY_NAME) == desired.stem)
        and (is_newcomer(index, desired) or _is_back(index, desired, oldest))
    )


def caused(
    desired: ElasticDesired,
    found: Sequence[ElasticIndexState],
    policy: LifecyclePolicyState | None,
    now: datetime,
    *,
    by_policy: bool,
) -> tuple[ElasticIndexState, ...]:
    """Of the overdue ones, those that the policy on the server does not delete anyway."""
    if not by_policy:
        return tuple(found)
    return tuple(index for index in found if not _goes_anyway(index, desired.stem, policy, now))


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


def _is_back(index: ElasticIndexState, desired: ElasticDesired, oldest: str | None) -> bool:
    """Whether an overdue index cannot be the one of its name that the lifecycle was agreed to for.

    Its mark and its aliases prove nothing, since a restore brings them along. It was made when its days were over
    already; or, out of a snapshot, which keeps the date, it is older than all that the series had.
    """
    month, lifecycle = month_of(desired.stem, index.name), desired.lifecycle
    if month is None or lifecycle is None:
        return False
    over = month.end + timedelta(days=lifecycle.delete_days)
    return (index.created is not None and index.created >= over) or (
        oldest is not None and str(month) < oldest
    )


def _goes_anyway(
    index: ElasticIndexState, stem: str, policy: LifecyclePolicyState | None, now: datetime
) -> bool:
    if policy is None or index.settings.get(POLICY_NAME) != stem:
        return False
    age, since = deletes_after(policy.policy), origin(index.settings, index.created)
    return age is not None and since is not None and since + age <= now


def _span(lost: Sequence[ElasticIndexState]) -> str:
    first, last = lost[0].name, lost[-1].name
    return first if first == last else f"{first} to {last}"
