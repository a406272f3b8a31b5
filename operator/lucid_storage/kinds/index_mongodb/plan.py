"""What to do about an index. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lucid_storage.errors import Reason
from lucid_storage.kinds import drift
from lucid_storage.kinds.contract import Action, Plan, Scope, Verdict
from lucid_storage.kinds.identity import surely_another
from lucid_storage.kinds.index_mongodb.actions import (
    BuildIndex,
    ChangeIndex,
    ConvertToUnique,
    StopPreparingUnique,
)
from lucid_storage.kinds.index_mongodb.checks import blocked, loses
from lucid_storage.kinds.index_mongodb.desired import IndexDesired, shown_keys
from lucid_storage.kinds.index_mongodb.observed import IndexObserved
from lucid_storage.kinds.index_mongodb.strategy import FIELD_NAMES, Way, choose, shown_fields
from lucid_storage.kinds.index_mongodb.successor import (
    build_first,
    drop_first,
    drops_before,
    former_index,
    free_name,
    named,
    pending_index,
)
from lucid_storage.kinds.index_mongodb.superseded import clear_away, is_declared
from lucid_storage.kinds.protection import Need
from lucid_storage.models.backup import BackupEngine
from lucid_storage.models.base import DriftEntry, DriftPolicy, Origin
from lucid_storage.models.index import Engine, IndexStatus, ReplacePolicy
from lucid_storage.stores.mongodb.definition import is_text, same_definition
from lucid_storage.stores.mongodb.types import IndexChange, IndexDefinition, IndexState

BUILD_RECHECK_SECONDS = 2.0


def plan(
    desired: IndexDesired, observed: IndexObserved, status: IndexStatus, scope: Scope
) -> Plan[IndexStatus]:
    """One step towards the declaration."""
    step = _step(desired, observed, status, scope)
    if step.actions and desired.backup_before and loses(observed.answers):
        return replace(step, protect=Need(BackupEngine.MONGODB, collections=(desired.target,)))
    return step


def _step(
    desired: IndexDesired, observed: IndexObserved, status: IndexStatus, scope: Scope
) -> Plan[IndexStatus]:
    wanted = _wanted(desired, status)
    status = status.model_copy(
        update={
            "engine": Engine.MONGODB,
            "keys": shown_keys(desired.definition.keys),
            "drift_summary": "ignored" if desired.drift_policy is DriftPolicy.IGNORE else "none",
        }
    )
    if observed.indexes is None:
        return _no_collection(desired, status)
    serving = _serving(wanted, desired, observed, status)
    if serving is not None:
        if serving.building or serving.name in observed.running:
            return _building(serving.name, observed, status)
        return _ready(serving, wanted, desired, observed, status, scope)
    if observed.running:
        return _building(min(observed.running), observed, status)
    old = named(observed.indexes or (), status.index_name)
    if old is None:
        return _create(wanted, desired, observed, status, scope)
    return _replace(old, wanted, desired, observed, status, scope)


def _wanted(desired: IndexDesired, status: IndexStatus) -> IndexDefinition:
    """`hidden` is the one field that may be unmanaged; once managed and then removed it returns to false."""
    definition = desired.definition
    if definition.hidden is None and "hidden" in (status.managed_fields or []):
        return replace(definition, hidden=False)
    return definition


def _no_collection(desired: IndexDesired, status: IndexStatus) -> Plan[IndexStatus]:
    said = (
        f"The collection {desired.target} is not there yet; the index is built as soon as it is. Declare it with a"
        " Collection, or let the application make it."
    )
    status = status.model_copy(update={"progress": ""})
    return Plan(status, verdict=Verdict(Reason.COLLECTION_NOT_READY, said))


def _serving(
    wanted: IndexDefinition, desired: IndexDesired, observed: IndexObserved, status: IndexStatus
) -> IndexState | None:
    """The index that is the declared one, whatever its name; the recorded name is preferred."""
    equal = [ix for ix in observed.indexes or () if not ix.clustered and not _differing(wanted, ix, observed)]
    pending = status.pending.index_name if status.pending else None
    for name in (status.index_name, pending, desired.name):
        for index in equal:
            if index.name == name:
                return index
    return equal[0] if equal else None


def _differing(wanted: IndexDefinition, index: IndexState, observed: IndexObserved) -> list[str]:
    """Fields that differ; visibility aside, which says nothing about what an index is."""
    found = same_definition(wanted, index.definition, default_collation=observed.default_collation)
    return [f for f in found if f != "hidden"]


def _building(name: str, observed: IndexObserved, status: IndexStatus) -> Plan[IndexStatus]:
    percent = next((p.percent for p in observed.progress if name in p.index_names), None)
    status = status.model_copy(update={"progress": f"{percent}%" if percent is not None else "0%"})
    said = f"The server is building the index {name}."
    return Plan(status, verdict=Verdict(Reason.BUILDING, said), recheck_seconds=BUILD_RECHECK_SECONDS)


def _ready(
    serving: IndexState,
    wanted: IndexDefinition,
    desired: IndexDesired,
    observed: IndexObserved,
    status: IndexStatus,
    scope: Scope,
) -> Plan[IndexStatus]:
    adjust: list[Action] = []
    hidden_by_us = serving.name in {s.index_name for s in status.superseded or ()} | _hidden_by_peers(
        status, scope
    )
    should_hide = wanted.hidden if wanted.hidden is not None or not hidden_by_us else False
    if should_hide is not None and should_hide != bool(serving.definition.hidden):
        adjust.append(ChangeIndex(desired.target, serving.name, IndexChange(hidden=should_hide)))
    if serving.prepare_unique and not wanted.unique:
        adjust.append(StopPreparingUnique(desired.target, serving.name))
    found = (drift.entry("hidden", should_hide, serving.definition.hidden, scope.now),) if adjust else ()
    if found and scope.settled and desired.drift_policy is not DriftPolicy.CORRECT:
        return _reported(desired, _settled(serving, desired, observed, status, scope), found)
    if adjust:
        return Plan(status, actions=tuple(adjust), drift=found if scope.settled else ())
    return _settled(serving, desired, observed, status, scope)


def _hidden_by_peers(status: IndexStatus, scope: Scope) -> set[str]:
    """Indexes that other resources had replaced and hidden, before this one declared them."""
    return {
        str(entry.get("indexName"))
        for peer in scope.peers
        if not surely_another(status.server_identity, peer.status.get("serverIdentity"))
        for entry in peer.status.get("superseded") or ()
        if entry.get("hiddenAt")
    }


def _settled(
    serving: IndexState, desired: IndexDesired, observed: IndexObserved, status: IndexStatus, scope: Scope
) -> Plan[IndexStatus]:
    """The declared index serves; what it replaced is cleared away."""
    cleared = clear_away(serving, desired, observed.indexes or (), observed.claimed, status, scope.now)
    status = status.model_copy(
        update={
            "index_name": serving.name,
            "origin": status.origin or Origin.ADOPTED,
            "pending": None,
            "superseded": list(cleared.superseded) or None,
            "progress": "100%",
            "duplicates": None,
            "managed_fields": _managed(desired.definition) or None,
        }
    )
    return Plan(
        status,
        actions=cleared.actions,
        journal=bool(cleared.actions),
        message=" ".join(filter(None, (cleared.message, _unseen(serving, desired)))),
        recheck_seconds=cleared.recheck_seconds,
    )


def _unseen(serving: IndexState, desired: IndexDesired) -> str:
    if not serving.definition.hidden or desired.definition.hidden is not None:
        return ""
    return f"The index {serving.name} is hidden, so no query uses it; declare hidden: false to show it."


def _create(
    wanted: IndexDefinition,
    desired: IndexDesired,
    observed: IndexObserved,
    status: IndexStatus,
    scope: Scope,
) -> Plan[IndexStatus]:
    lost: tuple[DriftEntry, ...] = ()
    if scope.settled and status.index_name is not None:
        lost = (drift.entry("index", status.index_name, "absent", scope.now),)
        if desired.drift_policy is not DriftPolicy.CORRECT:
            return _reported(desired, Plan(status), lost)
    former = former_index(observed.indexes or (), observed.claimed, status)
    name = free_name(desired, observed.indexes or (), former, status)
    obstacle = _obstacle(wanted, name, desired, observed) if former is None else None
    if obstacle is not None:
        return Plan(status, verdict=Verdict(Reason.INDEX_CONFLICT, obstacle, stalled=True))
    blocking = blocked(None, wanted, desired, observed.answers, status)
    if blocking is not None:
        return blocking
    clear = drops_before(wanted, desired, observed, former, status)
    status = status.model_copy(update={"pending": pending_index(name, status)})
    return Plan(status, actions=(*clear, BuildIndex(desired.target, name, wanted)), drift=lost)


def _obstacle(
    wanted: IndexDefinition, name: str, desired: IndexDesired, observed: IndexObserved
) -> str | None:
    other = named(observed.indexes or (), name)
    if other is not None:
        fields = shown_fields(_differing(wanted, other, observed))
        return (
            f"{desired.target} has an index {name} that differs from this declaration in {fields}. Make the"
            " declaration equal to adopt it, give this one another name, or drop that index by hand."
        )
    if is_text(wanted):
        text = next((ix.name for ix in observed.indexes or () if is_text(ix.definition)), None)
        if text is not None:
            return (
                f"{desired.target} has a text index already ({text}), and a collection can have only one."
                " Declare all searched fields in one Index, or drop that index by hand."
            )
    return None


def _replace(
    old: IndexState,
    wanted: IndexDefinition,
    desired: IndexDesired,
    observed: IndexObserved,
    status: IndexStatus,
    scope: Scope,
) -> Plan[IndexStatus]:
    differing = same_definition(wanted, old.definition, default_collation=observed.default_collation)
    entries = _entries(differing, wanted, old.definition, scope) if scope.settled else ()
    if entries and desired.drift_policy is not DriftPolicy.CORRECT:
        return _reported(desired, Plan(status), entries)
    blocking = blocked(old.definition, wanted, desired, observed.answers, status)
    if blocking is not None:
        return blocking
    strategy = choose(differing, wanted, old.definition, observed.server)
    if strategy.way is Way.IN_PLACE:
        return Plan(status, actions=_in_place(old.name, desired, strategy.change), drift=entries)
    if strategy.way is Way.BUILD_FIRST:
        return build_first(wanted, desired, observed, status, entries)
    said = _undroppable(old, shown_fields(differing), desired, observed, scope)
    if said is not None:
        return Plan(status, verdict=Verdict(Reason.NOT_IN_PLACE, said, stalled=True), drift=entries)
    return drop_first(old, wanted, desired, observed, status, entries)


def _undroppable(
    old: IndexState, fields: str, desired: IndexDesired, observed: IndexObserved, scope: Scope
) -> str | None:
    """Why an index that has to be dropped first may not be."""
    said = f"The index {old.name} cannot change its {fields} while it exists"
    if desired.replace_policy is not ReplacePolicy.DROP_FIRST:
        return (
            f"{said}: set replacePolicy: DropFirst to have it dropped and built again (queries go without it"
            " meanwhile), or change it back."
        )
    if is_declared(old, observed.claimed):
        return f"{said}, and another Index declares it as it is: delete that one, or change this one back."
    if scope.forbid_drops:
        return (
            f"{said}, and the operator's settings forbid all drops (FORBID_DROPS): drop it by hand, or change it"
            " back."
        )
    return None


def _in_place(name: str, desired: IndexDesired, change: IndexChange) -> tuple[Action, ...]:
    actions: list[Action] = []
    if change.unique:
        actions.append(ConvertToUnique(desired.target, name))
        change = replace(change, unique=None)
    if change != IndexChange():
        actions.append(ChangeIndex(desired.target, name, change))
    return tuple(actions)


def _reported(
    desired: IndexDesired, plan: Plan[IndexStatus], entries: tuple[DriftEntry, ...]
) -> Plan[IndexStatus]:
    if desired.drift_policy is DriftPolicy.IGNORE:
        return replace(plan, message="Drift is ignored.")
    status = plan.status.model_copy(update={"drift_summary": drift.summary(entries)})
    message = "Drift is reported and not corrected (driftPolicy: Report)."
    return replace(plan, status=status, drift=entries, message=message)


def _entries(
    differing: Sequence[str], wanted: IndexDefinition, actual: IndexDefinition, scope: Scope
) -> tuple[DriftEntry, ...]:
    return tuple(
        drift.entry(FIELD_NAMES.get(f, f), getattr(wanted, f), getattr(actual, f), scope.now)
        for f in differing
    )


def _managed(definition: IndexDefinition) -> list[str]:
    return ["hidden"] if definition.hidden is not None else []
