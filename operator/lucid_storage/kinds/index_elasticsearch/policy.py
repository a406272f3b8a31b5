"""The lifecycle policy on the server. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from lucid_storage.kinds.index_elasticsearch import ownership
from lucid_storage.kinds.index_elasticsearch.actions import DeletePolicy, PutPolicy
from lucid_storage.kinds.index_elasticsearch.desired import ElasticDesired
from lucid_storage.kinds.index_elasticsearch.lifecycle import policy_body
from lucid_storage.kinds.index_elasticsearch.mappings import value_at
from lucid_storage.kinds.index_elasticsearch.steps import Difference, Step
from lucid_storage.models.elasticindex import Lifecycle, ManagedBy
from lucid_storage.stores.elasticsearch.compare import policy_differences
from lucid_storage.stores.elasticsearch.types import ElasticInfo, LifecyclePolicyState


def by_policy(desired: ElasticDesired, server: ElasticInfo) -> bool:
    """Whether the server carries out the lifecycle. One without that ability leaves it to the operator."""
    return (
        desired.lifecycle is not None and desired.lifecycle.managed_by is ManagedBy.SERVER and server.has_ilm
    )


def steps(
    desired: ElasticDesired, lifecycle: Lifecycle, observed: LifecyclePolicyState | None
) -> Iterator[Step]:
    """The policy as declared; it has the name of the template."""
    wanted = _wanted(desired, lifecycle, observed)
    if observed is None:
        yield Step(PutPolicy(wanted), (Difference("lifecycle", "present", "absent"),))
        return
    found = policy_differences(wanted.policy, observed.policy)
    if found:
        differences = tuple(
            Difference(f"lifecycle.{path}", value_at(wanted.policy, path), value_at(observed.policy, path))
            for path in found
        )
        yield Step(PutPolicy(wanted), differences)


def removal(desired: ElasticDesired, observed: LifecyclePolicyState | None) -> Iterator[Step]:
    """The end of a policy that is not wanted any more, if it was made here."""
    if ownership.made_policy(observed, desired.owner):
        yield Step(DeletePolicy(desired.stem), (Difference("lifecycle", "absent", "present"),))


def obstacles(
    desired: ElasticDesired, lifecycle: Lifecycle, observed: LifecyclePolicyState | None
) -> list[str]:
    """Fields in which a policy that is not ours differs; none means that it can be adopted."""
    if observed is None or ownership.made_policy(observed, desired.owner):
        return []
    return policy_differences(_wanted(desired, lifecycle, observed).policy, observed.policy)


def _wanted(
    desired: ElasticDesired, lifecycle: Lifecycle, observed: LifecyclePolicyState | None
) -> LifecyclePolicyState:
    meta = ownership.meta(desired.owner)
    if observed is not None:
        kept = observed.policy.get("_meta")
        meta = kept if isinstance(kept, dict) else {}
    return LifecyclePolicyState(desired.stem, policy_body(lifecycle, meta))
