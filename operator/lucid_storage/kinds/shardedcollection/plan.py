"""What to do about a sharded collection. Pure: values in, values out."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from lucid_storage.errors import Reason
from lucid_storage.kinds import drift
from lucid_storage.kinds.contract import Action, Notice, Plan, Scope, Verdict
from lucid_storage.kinds.shardedcollection import backup_needed, changing, spread, zones
from lucid_storage.kinds.shardedcollection.actions import (
    EnableSharding,
    SetBalancerWindow,
    SetBalancing,
    ShardCollection,
)
from lucid_storage.kinds.shardedcollection.desired import ShardedDesired, Zone, shown_key
from lucid_storage.kinds.shardedcollection.observed import ShardedObserved
from lucid_storage.kinds.shardedcollection.obstacles import unshardable
from lucid_storage.kinds.shardedcollection.preflight import examine
from lucid_storage.models.base import DriftEntry, DriftPolicy
from lucid_storage.models.shardedcollection import KeyVerdict, ShardedCollectionStatus
from lucid_storage.stores.mongodb.sharding.types import ShardCluster, ShardedState

SHARDING = "Sharding"
BALANCING_SECONDS = 30.0
BACKUP_SECONDS = 60.0
"""How often to look for a backup after a changed key."""


def plan(
    desired: ShardedDesired, observed: ShardedObserved, status: ShardedCollectionStatus, scope: Scope
) -> Plan[ShardedCollectionStatus]:
    """One step towards the declaration."""
    ignored = desired.drift_policy is DriftPolicy.IGNORE
    status = status.model_copy(update={"drift_summary": "ignored" if ignored else "none"})
    cluster = observed.cluster
    if cluster is None:
        return Plan(status, verdict=_not_sharded(desired, observed))
    window = _window(desired, observed, status, scope)
    if window is not None:
        return window
    misfit = unshardable(desired, observed)
    if misfit is not None:
        return Plan(status, verdict=misfit)
    busy = changing.under_way(desired, observed, status)
    if busy is not None:
        return busy
    if observed.state is None:
        return _shard(desired, observed, cluster, status, scope)
    status, notices = _known(desired, observed, observed.state, status, scope)
    if observed.state.key != desired.key:
        made = changing.change_key(desired, observed, observed.state, status, scope)
    else:
        made = _options(desired, observed, observed.state, status, scope)
    return replace(made, notices=(*notices, *made.notices))


def _not_sharded(desired: ShardedDesired, observed: ShardedObserved) -> Verdict:
    said = (
        f"{desired.target} cannot be sharded, since a {_TOPOLOGIES[observed.server.topology]} answers and no router of"
        " a sharded cluster: let the connection name the cluster's mongos, or delete this resource."
    )
    return Verdict(Reason.NOT_SHARDED, said, stalled=True)


_TOPOLOGIES = {"standalone": "standalone server", "replicaSet": "replica set", "sharded": "router"}


def _window(
    desired: ShardedDesired, observed: ShardedObserved, status: ShardedCollectionStatus, scope: Scope
) -> Plan[ShardedCollectionStatus] | None:
    """The operator's setting, whatever this resource's policies are; told as drift where it changes something."""
    balancer = observed.balancer
    if desired.window is None or balancer is None or observed.paused or balancer.window == desired.window:
        return None
    have = f"{balancer.window.start}-{balancer.window.stop}" if balancer.window else "none"
    want = f"{desired.window.start}-{desired.window.stop}"
    entries = (drift.entry("balancerWindow", want, have, scope.now),) if scope.settled else ()
    return Plan(status, actions=(SetBalancerWindow(desired.window),), drift=entries)


# Sharding


def _shard(
    desired: ShardedDesired,
    observed: ShardedObserved,
    cluster: ShardCluster,
    status: ShardedCollectionStatus,
    scope: Scope,
) -> Plan[ShardedCollectionStatus]:
    lost: tuple[DriftEntry, ...] = ()
    if scope.settled:
        lost = (drift.entry("shardKey", shown_key(desired.key), "not sharded", scope.now),)
        if desired.drift_policy is not DriftPolicy.CORRECT:
            said = "The collection is not sharded any more: somebody dropped it or made it anew."
            return _reported(desired, Plan(status), lost, said)
    declared = observed.neighbours.collection
    if observed.collection is None and declared is not None:
        said = f"Waits until the Collection {declared.declared_by} has made {desired.target}."
        return Plan(status, verdict=Verdict(Reason.COLLECTION_NOT_READY, said))
    unknown = _zone_refusal(desired, observed, cluster)
    if unknown is not None:
        return Plan(status, verdict=unknown)
    status = status.model_copy(update={"uuid": None, "key": None, "operation": None, "progress": None})
    examined = examine(desired, observed, status, scope)
    if examined.questions or examined.verdict is not None:
        return Plan(
            examined.status,
            questions=examined.questions,
            verdict=examined.verdict,
            drift=lost if not examined.questions else (),
            recheck_seconds=examined.recheck_seconds,
        )
    collation = observed.collection.options.collation if observed.collection is not None else None
    action = ShardCollection(
        desired.target,
        desired.key,
        unique=bool(desired.unique),
        num_initial_chunks=desired.num_initial_chunks,
        simple_collation=collation is not None,
    )
    status = examined.status.model_copy(
        update={"operation": SHARDING, "initial_chunks": desired.num_initial_chunks}
    )
    return Plan(status, actions=(EnableSharding(desired.database), action), journal=True, drift=lost)


# What is known of a sharded collection


def _known(
    desired: ShardedDesired,
    observed: ShardedObserved,
    state: ShardedState,
    status: ShardedCollectionStatus,
    scope: Scope,
) -> tuple[ShardedCollectionStatus, tuple[Notice, ...]]:
    """Key, figures and the need of a backup, with what is worth an Event."""
    notices: list[Notice] = []
    now_key, before = shown_key(state.key), status.key
    update: dict[str, object] = {"key": now_key, "uuid": state.uuid}
    if before is not None and before != now_key:
        update |= {"backup_needed_since": _ceiling(scope.now), "stats_time": None}
    if state.key == desired.key and status.operation is not None:
        if status.operation == SHARDING:
            notices.append(Notice("Sharded", f"{desired.target} is sharded by {now_key}."))
        update |= {"operation": None, "progress": None, "stats_time": None}
    if state.key == desired.key:
        update["failure"] = None
    status = status.model_copy(update=update)
    if before is not None and before != now_key:
        said = backup_needed.said(status)
        notices.append(Notice(str(Reason.SHARD_KEY_CHANGED), said, warning=True))
    status, cleared = _backed_up(desired, observed, status)
    if observed.spread is not None:
        status = spread.told(status, state, observed.spread, scope.now)
    return status, (*notices, *cleared)


def _backed_up(
    desired: ShardedDesired, observed: ShardedObserved, status: ShardedCollectionStatus
) -> tuple[ShardedCollectionStatus, tuple[Notice, ...]]:
    since = status.backup_needed_since
    if since is None or backup_needed.still_needed(
        since,
        desired.target,
        status.server_identity,
        observed.neighbours.backups,
        observed.backed_up_at,
    ):
        return status, ()
    said = f"A backup of {desired.target} that knows the new shard key is there."
    return status.model_copy(update={"backup_needed_since": None}), (Notice("BackedUp", said),)


def _ceiling(moment: datetime) -> datetime:
    """The next whole second: a backup that began in the same one may not know the key."""
    whole = moment.replace(microsecond=0)
    return whole if whole == moment else whole + timedelta(seconds=1)


# Zones and balancing


def _options(
    desired: ShardedDesired,
    observed: ShardedObserved,
    state: ShardedState,
    status: ShardedCollectionStatus,
    scope: Scope,
) -> Plan[ShardedCollectionStatus]:
    fixed = _fixed(desired, state, status)
    if fixed is not None:
        return Plan(status, verdict=fixed)
    assert observed.cluster is not None
    refusal = _zone_refusal(desired, observed, observed.cluster)
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
        return _reported(desired, finished, tuple(entries), "")
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


def _zone_refusal(
    desired: ShardedDesired, observed: ShardedObserved, cluster: ShardCluster
) -> Verdict | None:
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
        return None
    said = (
        f"The zone {other.name} is declared with other shards ({', '.join(sorted(other.shards))}) by"
        f" {other.declared_by}, which is older: name the same shards, or choose another name for the zone."
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
    said = spread.message(state, observed.spread) if observed.spread is not None else ""
    preflight = status.preflight
    poor = preflight is not None and preflight.verdict is KeyVerdict.POOR
    if not said and poor:
        return "The shard key was accepted although the pre-flight found it poor; status.preflight says why."
    return said


def _reported(
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
