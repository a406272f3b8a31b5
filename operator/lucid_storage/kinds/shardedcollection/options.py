"""Zones, balancing and what cannot be changed, of a collection that has the declared key. Pure."""

from __future__ import annotations

from dataclasses import replace

from lucid_storage.errors import Reason
from lucid_storage.kinds import drift
from lucid_storage.kinds.contract import Action, Plan, Scope, Verdict
from lucid_storage.kinds.shardedcollection import spread, zones
from lucid_storage.kinds.shardedcollection.actions import SetBalancing
from lucid_storage.kinds.shardedcollection.desired import ShardedDesired, Zone
from lucid_storage.kinds.shardedcollection.observed import ShardedObserved
from lucid_storage.models.base import DriftEntry, DriftPolicy
from lucid_storage.models.shardedcollection import KeyVerdict, ShardedCollectionStatus
from lucid_storage.stores.mongodb.sharding.types import ShardCluster, ShardedState

BALANCING_SECONDS = 30.0
BACKUP_SECONDS = 60.0
"""How often to look for a backup after a changed key."""


def settle_options(
    desired: ShardedDesired,
    observed: ShardedObserved,
    state: ShardedState,
    status: ShardedCollectionStatus,
    scope: Scope,
) -> Plan[ShardedCollectionStatus]:
    """One step towards the declared zones and balancing of a collection that has the declared key."""
    fixed = _fixed(desired, state, status)
    if fixed is not None:
        return Plan(status, verdict=fixed)
    assert observed.cluster is not None
    acting = not scope.settled or desired.drift_policy is DriftPolicy.CORRECT
    refusal = zone_refusal(desired, observed, observed.cluster, acting=acting)
    if refusal is not None:
        return Plan(status, verdict=refusal)
    before = status.managed_fields or []
    entries: list[DriftEntry] = []
    actions: list[Action] = []
    wanted = _wanted_zones(desired, before)
    if wanted is not None:
        work = zones.compare(desired.target, wanted, observed.zones, observed.cluster)
        entries += [drift.entry(d.field, d.expected, d.actual, scope.now) for d in work.differences]
        actions += work.actions
    balancing = _wanted_balancing(desired, before)
    if balancing is not None and balancing != state.balancing:
        entries.append(drift.entry("balancing.enabled", balancing, state.balancing, scope.now))
        actions.append(SetBalancing(desired.target, balancing))
    finished = _finish(desired, observed, state, status)
    if not actions:
        return finished
    if scope.settled and desired.drift_policy is not DriftPolicy.CORRECT:
        return reported(desired, finished, tuple(entries), "")
    return Plan(status, actions=tuple(actions), drift=tuple(entries) if scope.settled else ())


def _fixed(desired: ShardedDesired, state: ShardedState, status: ShardedCollectionStatus) -> Verdict | None:
    """What cannot be changed once it is sharded."""
    if desired.unique is not None and desired.unique != state.unique:
        have, want = ("unique", "not unique") if state.unique else ("not unique", "unique")
        said = (
            f"The shard key of {desired.target} is {have} and declared as {want}, which cannot be changed once the"
            f" collection is sharded: set unique: {str(state.unique).lower()}, or remove the field."
        )
        return Verdict(Reason.KEY_DIFFERS, said, stalled=True)
    used, declared = status.initial_chunks, desired.num_initial_chunks
    if used is not None and declared is not None and used != declared:
        said = (
            f"numInitialChunks counts only while a collection is being sharded, and {desired.target} was sharded with"
            f" {used}: set it back, or remove the field."
        )
        return Verdict(Reason.NOT_IN_PLACE, said, stalled=True)
    return None


def zone_refusal(
    desired: ShardedDesired, observed: ShardedObserved, cluster: ShardCluster, *, acting: bool = True
) -> Verdict | None:
    """Zones that the cluster or an older resource does not allow, or, where we would act, other collections do not."""
    unknown = zones.unknown_shards(desired.zones or (), cluster)
    if unknown:
        known = ", ".join(sorted(shard.name for shard in cluster.shards)[:20])
        said = (
            f"The cluster has no shard {unknown[0]}, which spec.zones names; it has {known}: correct the name, or"
            " add the shard."
        )
        return Verdict(Reason.SHARD_UNKNOWN, said, stalled=True)
    other = zones.disputed(desired.zones or (), observed.neighbours.zones)
    if other is None:
        return _occupied(desired, observed, cluster) if acting else None
    said = (
        f"The zone {other.name} is declared with other shards ({', '.join(sorted(other.shards))}) by"
        f" {other.declared_by}, which is older: name the same shards, or choose another name for the zone."
    )
    return Verdict(Reason.CONFLICT, said, stalled=True)


def _occupied(desired: ShardedDesired, observed: ShardedObserved, cluster: ShardCluster) -> Verdict | None:
    """Shards of a zone are the deployment's: to change them moves the documents of all collections in it."""
    found = zones.occupied(
        desired.target, desired.zones or (), observed.zone_users, observed.neighbours.zones, cluster
    )
    if found is None:
        return None
    zone, members = found
    has = ", ".join(sorted(members)) or "none"
    said = (
        f"The zone {zone.name} has other shards ({has}) than spec.zones names, and other collections have ranges in it,"
        " whose documents would be moved: name the same shards, or choose another name for the zone."
    )
    return Verdict(Reason.CONFLICT, said, stalled=True)


def _wanted_zones(desired: ShardedDesired, before: list[str]) -> tuple[Zone, ...] | None:
    """Zones that were declared and no longer are return to the server's default, none."""
    return () if desired.zones is None and "zones" in before else desired.zones


def _wanted_balancing(desired: ShardedDesired, before: list[str]) -> bool | None:
    return True if desired.balancing is None and "balancing" in before else desired.balancing


def _finish(
    desired: ShardedDesired,
    observed: ShardedObserved,
    state: ShardedState,
    status: ShardedCollectionStatus,
) -> Plan[ShardedCollectionStatus]:
    status = status.model_copy(update={"managed_fields": desired.managed or None})
    again = [
        BALANCING_SECONDS if status.balanced == "False" else None,
        BACKUP_SECONDS if status.backup_needed_since is not None else None,
    ]
    return Plan(
        status,
        message=_message(observed, state, status),
        recheck_seconds=min((s for s in again if s is not None), default=None),
    )


def _message(observed: ShardedObserved, state: ShardedState, status: ShardedCollectionStatus) -> str:
    said = spread.message(state, observed.spread, status) if observed.spread is not None else ""
    preflight = status.preflight
    if said or preflight is None:
        return said
    if preflight.verdict is KeyVerdict.POOR:
        return "The shard key was accepted although the pre-flight found it poor; status.preflight says why."
    if preflight.verdict is KeyVerdict.UNKNOWN:
        return "The shard key was accepted unseen, since the documents could not be read; status.preflight says why."
    return ""


def reported(
    desired: ShardedDesired,
    made: Plan[ShardedCollectionStatus],
    entries: tuple[DriftEntry, ...],
    said: str,
) -> Plan[ShardedCollectionStatus]:
    """The plan with drift told, not corrected; under Ignore not even told."""
    if desired.drift_policy is DriftPolicy.IGNORE or not entries:
        return made
    status = made.status.model_copy(update={"drift_summary": drift.summary(entries)})
    told = said or "Drift is reported and not corrected (driftPolicy: Report)."
    return replace(made, status=status, drift=entries, message=told)
