"""The declared key differs from the server's: refine it, reshard, or say what would do. Pure.

Refining: https://www.mongodb.com/docs/manual/core/sharding-refine-a-shard-key/ (4.4). Resharding:
https://www.mongodb.com/docs/manual/core/sharding-reshard-a-collection/ (5.0).
"""

from __future__ import annotations

from lucid_storage.errors import Reason
from lucid_storage.kinds import drift
from lucid_storage.kinds.contract import Action, Plan, Scope, Verdict
from lucid_storage.kinds.shardedcollection import zones
from lucid_storage.kinds.shardedcollection.actions import RefineKey, Reshard
from lucid_storage.kinds.shardedcollection.desired import ShardedDesired, shown_key
from lucid_storage.kinds.shardedcollection.observed import ShardedObserved
from lucid_storage.kinds.shardedcollection.preflight import examine
from lucid_storage.models.base import DriftPolicy
from lucid_storage.models.shardedcollection import ChangeFailure, ChangePolicy, ShardedCollectionStatus
from lucid_storage.stores.mongodb.sharding.types import ReshardPhase, ShardedState

UNDER_WAY_SECONDS = 5.0
REFINING, RESHARDING = "Refining", "Resharding"

_PHASES = {
    ReshardPhase.PREPARING: "preparing",
    ReshardPhase.COPYING: "copying documents",
    ReshardPhase.CATCHING_UP: "catching up with writes",
    ReshardPhase.COMMITTING: "committing",
    ReshardPhase.ABORTING: "giving up",
}


def under_way(
    desired: ShardedDesired, observed: ShardedObserved, status: ShardedCollectionStatus
) -> Plan[ShardedCollectionStatus] | None:
    """What to say while the server is at work, whoever asked for it."""
    state, found = observed.state, observed.resharding
    if found is not None or (state is not None and state.resharding and state.key != desired.key):
        return _resharding(desired, observed, status)
    if observed.running:
        name = next(iter(sorted(observed.running)))
        said = f"{name} {desired.target}: the server is at work, and is not asked again meanwhile."
        status = status.model_copy(update={"operation": name})
        return Plan(status, verdict=Verdict(Reason.PROGRESSING, said), recheck_seconds=UNDER_WAY_SECONDS)
    return None


def _resharding(
    desired: ShardedDesired, observed: ShardedObserved, status: ShardedCollectionStatus
) -> Plan[ShardedCollectionStatus]:
    found = observed.resharding
    phase = _PHASES[found.phase] if found is not None else "at work"
    percent = f"{found.percent}%" if found is not None and found.percent is not None else None
    towards = found.key if found is not None else None
    said = f"The server is resharding {desired.target}"
    if towards is not None:
        said += f" by {shown_key(towards)}"
    said += f" ({phase}{f', {percent}' if percent else ''}); reads and writes go on."
    if towards is not None and towards != desired.key:
        said += f" This resource declares {shown_key(desired.key)}, and waits until that is over."
    update: dict[str, object] = {"operation": RESHARDING, "progress": percent or phase}
    if towards == desired.key or (towards is None and status.operation == RESHARDING):
        update["resharding_seen"] = status.observed_generation
    status = status.model_copy(update=update)
    return Plan(status, verdict=Verdict(Reason.RESHARDING, said), recheck_seconds=UNDER_WAY_SECONDS)


def change_key(
    desired: ShardedDesired,
    observed: ShardedObserved,
    state: ShardedState,
    status: ShardedCollectionStatus,
    scope: Scope,
) -> Plan[ShardedCollectionStatus]:
    """One step from the server's key to the declared one."""
    if scope.settled:
        return _changed_by_others(desired, state, status, scope)
    status = _given_up(desired, observed, status)
    refusal = _refusal(desired, observed, state, status)
    if refusal is not None:
        return Plan(status, verdict=refusal)
    refining = desired.change_policy is ChangePolicy.REFINE
    examined = examine(desired, observed, status, scope, changing=True, refining=refining)
    if examined.questions or examined.verdict is not None:
        return Plan(
            examined.status,
            questions=examined.questions,
            verdict=examined.verdict,
            recheck_seconds=examined.recheck_seconds,
        )
    action: Action
    if refining:
        action, operation = RefineKey(desired.target, desired.key, uuid=state.uuid or None), REFINING
    else:
        action = Reshard(
            desired.target,
            desired.key,
            desired.num_initial_chunks,
            simple_collation=state.collation is not None,
            uuid=state.uuid or None,
        )
        operation = RESHARDING
    cleared = zones.clear_all(desired.target, observed.zones) if operation == RESHARDING else ()
    update: dict[str, object] = {"operation": operation, "progress": "0%", "failure": None}
    if operation == RESHARDING:
        update["initial_chunks"] = desired.num_initial_chunks
    status = examined.status.model_copy(update=update)
    return Plan(status, actions=(*cleared, action), journal=True)


def _given_up(
    desired: ShardedDesired, observed: ShardedObserved, status: ShardedCollectionStatus
) -> ShardedCollectionStatus:
    """A resharding that was seen, and is over without its key, was aborted while nobody waited for its answer."""
    generation = status.observed_generation
    if status.resharding_seen is None or status.resharding_seen != generation or observed.running:
        return status
    if status.failure is not None and status.failure.generation == generation:
        return status
    said = (
        f"The resharding of {desired.target} by {shown_key(desired.key)} ended without the new key: somebody aborted"
        " it, or the cluster gave it up."
    )
    failure = ChangeFailure(generation=status.resharding_seen, message=said)
    return status.model_copy(update={"failure": failure, "operation": None, "progress": None})


def _changed_by_others(
    desired: ShardedDesired, state: ShardedState, status: ShardedCollectionStatus, scope: Scope
) -> Plan[ShardedCollectionStatus]:
    """A key is never changed back by itself: that would move all documents because somebody looked away."""
    entry = drift.entry("shardKey", shown_key(desired.key), shown_key(state.key), scope.now)
    if desired.drift_policy is DriftPolicy.IGNORE:
        return Plan(status, message="Drift is ignored.")
    status = status.model_copy(update={"drift_summary": drift.summary((entry,))})
    if desired.drift_policy is DriftPolicy.REPORT:
        said = "Drift is reported and not corrected (driftPolicy: Report)."
        return Plan(status, drift=(entry,), message=said)
    said = (
        f"Somebody else changed the shard key of {desired.target} from {shown_key(desired.key)} to"
        f" {shown_key(state.key)}, which is not changed back by itself: declare the new key, or change any other"
        " field of this resource to have changePolicy followed."
    )
    return Plan(status, drift=(entry,), verdict=Verdict(Reason.KEY_DIFFERS, said, stalled=True))


def _refusal(
    desired: ShardedDesired,
    observed: ShardedObserved,
    state: ShardedState,
    status: ShardedCollectionStatus,
) -> Verdict | None:
    """Why the key is not changed, with both keys and the way to do it."""
    extends = _extends(desired, state)
    differ = (
        f"{desired.target} is sharded by {shown_key(state.key)} and declared with {shown_key(desired.key)}"
    )
    if state.time_series:
        return _unsupported(
            f"{differ}; the key of a time series is not changed once it is sharded: set the declared key back."
        )
    if desired.change_policy is ChangePolicy.REFUSE:
        refine = "changePolicy: Refine adds the new fields and moves nothing, " if extends else ""
        return _differs(
            f"{differ}: set the declared key back, or allow the change: {refine}changePolicy: Reshard writes the"
            " whole collection anew. Either needs a fresh backup afterwards."
        )
    if desired.change_policy is ChangePolicy.REFINE:
        if not extends:
            return _differs(
                f"{differ}; refining can only add fields at the end of the server's key. Set the declared key back,"
                " or set changePolicy: Reshard to write the whole collection anew."
            )
        if not observed.server.at_least(4, 4):
            return _unsupported("Refining a shard key needs MongoDB 4.4; set the declared key back.")
    else:
        unable = _not_reshardable(desired, observed, state, differ)
        if unable is not None:
            return unable
    failure = status.failure
    if failure is not None and failure.generation == status.observed_generation:
        said = f"{failure.message} It is tried again after any change of this resource's spec."
        return Verdict(Reason.SERVER_REFUSED, said, stalled=True)
    return None


def _not_reshardable(
    desired: ShardedDesired, observed: ShardedObserved, state: ShardedState, differ: str
) -> Verdict | None:
    if not observed.server.at_least(5):
        return _unsupported("Resharding needs MongoDB 5.0; set the declared key back.")
    if state.unique or desired.unique:
        return _differs(
            f"{differ}; MongoDB does not reshard by or from a unique key. Set the declared key back."
        )
    if observed.zones and desired.zones is None:
        return _differs(
            f"{differ}, and it has zones, which resharding removes: set zones: [] to agree to that, or set the"
            " declared key back."
        )
    if observed.zones and desired.zones:
        return _differs(
            f"{differ}, and it has zones, whose documents would lie anywhere meanwhile: set zones: [] to agree to"
            " that and declare the new zones afterwards, or set the declared key back."
        )
    return None


def _extends(desired: ShardedDesired, state: ShardedState) -> bool:
    return len(desired.key) > len(state.key) and desired.key[: len(state.key)] == state.key


def _differs(said: str) -> Verdict:
    return Verdict(Reason.KEY_DIFFERS, said, stalled=True)


def _unsupported(said: str) -> Verdict:
    return Verdict(Reason.NOT_SUPPORTED, said, stalled=True)
