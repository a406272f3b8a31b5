"""What a deletion drops of a series, and what it leaves. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from lucid_storage.kinds.index_elasticsearch import ownership
from lucid_storage.kinds.index_elasticsearch.desired import ElasticDesired
from lucid_storage.kinds.index_elasticsearch.plan import ElasticObserved
from lucid_storage.models.index import ElasticStatus, IndexStatus
from lucid_storage.stores.elasticsearch.ages import POLICY_NAME
from lucid_storage.stores.elasticsearch.types import ElasticIndexState


@dataclass(frozen=True, slots=True)
class Removal:
    """`released` are indices that stay and no longer follow our policy, which could not be deleted otherwise."""

    indices: tuple[ElasticIndexState, ...]
    template: bool
    policy: bool
    released: tuple[ElasticIndexState, ...]
    kept: tuple[str, ...]
    """Names of what was there before this resource and stays for want of a confirmation."""


def removal(
    desired: ElasticDesired, observed: ElasticObserved, status: IndexStatus, *, confirmed: bool
) -> Removal:
    """Drops what carries our mark; with a confirmation also what was adopted, which status must have recorded."""
    owner = desired.owner
    known = status.elasticsearch or ElasticStatus()
    adopted = confirmed and known.template == desired.stem
    indices = tuple(ix for ix in observed.indices if adopted or ownership.made_index(ix, owner))
    staying = tuple(ix for ix in observed.indices if ix not in indices)
    template = observed.template is not None and (
        adopted or ownership.made_template(observed.template, owner)
    )
    policy = ownership.made_policy(observed.policy, owner) or (
        adopted and observed.policy is not None and known.policy == desired.stem
    )
    kept = [index.name for index in staying]
    if observed.template is not None and not template:
        kept.append(f"the index template {observed.template.name}")
    return Removal(
        indices=indices,
        template=template,
        policy=policy,
        released=tuple(ix for ix in staying if policy and ix.settings.get(POLICY_NAME) == desired.stem),
        kept=tuple(kept),
    )


def said(desired: ElasticDesired, done: list[str], kept: tuple[str, ...], annotation: str) -> str:
    """One or two sentences for the Event."""
    dropped = f"Dropped of {desired.pattern}: {_few(done)} (deletionPolicy: Delete)." if done else ""
    stays = (
        f"{_few(kept)} stay{'s' if len(kept) == 1 else ''}: not made by this resource, and the annotation"
        f' {annotation}: "{desired.stem}" that confirms the deletion is missing.'
        if kept
        else ""
    )
    return (
        " ".join(filter(None, (dropped, stays))) or f"Nothing of {desired.pattern} was there to be dropped."
    )


def _few(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more
