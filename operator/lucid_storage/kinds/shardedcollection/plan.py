"""What to do about a sharded collection. Pure: values in, values out."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from lucid_storage.errors import Reason
from lucid_storage.kinds import drift
from lucid_storage.kinds.contract import Notice, Plan, Scope, Verdict
from lucid_storage.kinds.shardedcollection import backup_needed, changing, spread
from lucid_storage.kinds.shardedcollection.actions import EnableSharding, SetBalancerWindow, ShardCollection
from lucid_storage.kinds.shardedcollection.desired import ShardedDesired, shown_key
from lucid_storage.kinds.shardedcollection.observed import ShardedObserved
from lucid_storage.kinds.shardedcollection.obstacles import unshardable
from lucid_storage.kinds.shardedcollection.options import reported, settle_options, zone_refusal
from lucid_storage.kinds.shardedcollection.preflight import examine
from lucid_storage.models.base import DriftEntry, DriftPolicy
from lucid_storage.models.shardedcollection import ShardedCollectionStatus
from lucid_storage.stores.mongodb.sharding.types import ShardCluster, ShardedState
from lucid_storage.stores.mongodb.types import CollectionState

SHARDING = "Sharding"


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
        made = settle_options(desired, observed, observed.state, status, scope)
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
            return reported(desired, Plan(status), lost, said)
    declared = observed.neighbours.collection
    if observed.collection is None and declared is not None:
        said = f"Waits until the Collection {declared.declared_by} has made {desired.target}."
        return Plan(status, verdict=Verdict(Reason.COLLECTION_NOT_READY, said))
    unknown = zone_refusal(desired, observed, cluster)
    if unknown is not None:
        return Plan(status, verdict=unknown)
    forgotten = dict.fromkeys(("uuid", "key", "operation", "progress", "resharding_seen"))
    status = status.model_copy(update=forgotten)
    examined = examine(desired, observed, status, scope)
    if examined.questions or examined.verdict is not None:
        return Plan(
            examined.status,
            questions=examined.questions,
            verdict=examined.verdict,
            drift=lost if not examined.questions else (),
            recheck_seconds=examined.recheck_seconds,
        )
    status = examined.status.model_copy(
        update={"operation": SHARDING, "initial_chunks": desired.num_initial_chunks}
    )
    actions = (EnableSharding(desired.database), _sharding(desired, observed.collection, status))
    return Plan(status, actions=actions, journal=True, drift=lost)


def _sharding(
    desired: ShardedDesired, collection: CollectionState | None, status: ShardedCollectionStatus
) -> ShardCollection:
    """The command, with what it rests on: servers do not compare the UUID of a time series."""
    options = collection.options if collection is not None else None
    ordinary = collection is not None and options is not None and options.time_series is None
    return ShardCollection(
        desired.target,
        desired.key,
        unique=bool(desired.unique),
        num_initial_chunks=desired.num_initial_chunks,
        simple_collation=options is not None and options.collation is not None,
        uuid=collection.uuid if collection is not None and ordinary else None,
        empty=status.preflight is not None and status.preflight.documents == 0,
    )


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
        update |= {"failure": None, "resharding_seen": None}
    status = status.model_copy(update=update)
    if before is not None and before != now_key:
        said = backup_needed.said(status)
        notices.append(Notice(str(Reason.SHARD_KEY_CHANGED), said, warning=True))
    status, cleared = _backed_up(desired, observed, status, scope.now)
    if observed.spread is not None:
        status = spread.told(status, state, observed.spread, scope.now)
    return status, (*notices, *cleared)


def _backed_up(
    desired: ShardedDesired, observed: ShardedObserved, status: ShardedCollectionStatus, now: datetime
) -> tuple[ShardedCollectionStatus, tuple[Notice, ...]]:
    since = status.backup_needed_since
    if since is None or backup_needed.still_needed(
        since,
        desired.target,
        status.server_identity,
        observed.neighbours.backups,
        observed.backed_up_at,
        now,
    ):
        return status, ()
    said = f"A backup of {desired.target} that knows the new shard key is there."
    return status.model_copy(update={"backup_needed_since": None}), (Notice("BackedUp", said),)


def _ceiling(moment: datetime) -> datetime:
    """The next whole second: a backup that began in the same one may not know the key."""
    whole = moment.replace(microsecond=0)
    return whole if whole == moment else whole + timedelta(seconds=1)
