"""What to do about an index. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lucid_storage.errors import Reason
from lucid_storage.kinds import consent, drift
from lucid_storage.kinds.contract import Action, Plan, Scope, Verdict
from lucid_storage.kinds.index_mongodb.actions import (
    BuildIndex,
    ChangeIndex,
    CheckDuplicates,
    ConvertToUnique,
    CountExpired,
    DropIndex,
    StopPreparingUnique,
)
from lucid_storage.kinds.index_mongodb.desired import IndexDesired, shown_keys
from lucid_storage.kinds.index_mongodb.strategy import FIELD_NAMES, Way, choose, shown_fields
from lucid_storage.kinds.index_mongodb.superseded import clear_away, is_claimed
from lucid_storage.models.base import DriftEntry, DriftPolicy, Origin
from lucid_storage.models.index import (
    DuplicateSummary,
    Engine,
    IndexStatus,
    PendingIndex,
    ReplacePolicy,
    SupersededIndex,
)
from lucid_storage.stores.mongodb.definition import is_text, same_definition
from lucid_storage.stores.mongodb.types import (
    BuildProgress,
    DuplicateReport,
    IndexChange,
    IndexDefinition,
    IndexState,
    JsonDoc,
    ServerInfo,
)

BUILD_RECHECK_SECONDS = 2.0
KEY_PATTERN_LIMIT = 400
"""Characters of a key pattern that are shown: 32 fields can have 8,000."""

Answer = DuplicateReport | int | None


@dataclass(frozen=True, slots=True)
class IndexObserved:
    """What was seen."""

    server: ServerInfo
    indexes: tuple[IndexState, ...] | None
    """None: the collection is not there."""
    default_collation: JsonDoc | None = None
    progress: tuple[BuildProgress, ...] = ()
    running: frozenset[str] = frozenset()
    """Names whose createIndexes call of this process has not returned."""
    claimed: tuple[tuple[str, IndexDefinition], ...] = ()
    """Name and definition of what other Index resources declare on the same collection."""
    answers: Mapping[object, Answer] = field(default_factory=dict)


def plan(
    desired: IndexDesired, observed: IndexObserved, status: IndexStatus, scope: Scope
) -> Plan[IndexStatus]:
    """One step towards the declaration."""
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
    old = _named(observed.indexes, status.index_name)
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
    hidden_by_us = serving.name in {s.index_name for s in status.superseded or ()}
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
            "superseded": cleared.superseded or None,
            "progress": "100%",
            "duplicates": None,
            "managed_fields": _managed(desired.definition) or None,
        }
    )
    return Plan(
        status,
        actions=cleared.actions,
        journal=bool(cleared.actions),
        message=cleared.message,
        recheck_seconds=cleared.recheck_seconds,
    )


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
    former = _former(observed, status)
    obstacle = _obstacle(wanted, desired, observed) if former is None else None
    if obstacle is not None:
        return Plan(status, verdict=Verdict(Reason.INDEX_CONFLICT, obstacle, stalled=True))
    blocked = _blocked(None, wanted, desired, observed, status)
    if blocked is not None:
        return blocked
    clear = () if former is None else (DropIndex(desired.target, former.name),)
    status = status.model_copy(update={"pending": _pending(desired.name, status)})
    return Plan(status, actions=(*clear, BuildIndex(desired.target, desired.name, wanted)), drift=lost)


def _pending(name: str, status: IndexStatus) -> PendingIndex:
    return PendingIndex(index_name=name, generation=status.observed_generation or 0)


def _former(observed: IndexObserved, status: IndexStatus) -> IndexState | None:
    """What was begun for a generation that was superseded before it was ready, if it is there."""
    pending = status.pending
    if pending is None or pending.generation == status.observed_generation:
        return None
    index = _named(observed.indexes, pending.index_name)
    return index if index is not None and not is_claimed(index, observed.claimed) else None


def _obstacle(wanted: IndexDefinition, desired: IndexDesired, observed: IndexObserved) -> str | None:
    named = _named(observed.indexes, desired.name)
    if named is not None:
        fields = shown_fields(_differing(wanted, named, observed))
        return (
            f"{desired.target} has an index {desired.name} that differs from this declaration in {fields}. Make the"
            " declaration equal to adopt it, give this one another name, or drop that index by hand."
        )
    if is_text(wanted):
        other = next((ix.name for ix in observed.indexes or () if is_text(ix.definition)), None)
        if other is not None:
            return (
                f"{desired.target} has a text index already ({other}), and a collection can have only one."
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
    blocked = _blocked(old.definition, wanted, desired, observed, status)
    if blocked is not None:
        return blocked
    strategy = choose(differing, wanted, old.definition, observed.server)
    if strategy.way is Way.IN_PLACE:
        return Plan(status, actions=_in_place(old.name, desired, strategy.change), drift=entries)
    if strategy.way is Way.BUILD_FIRST:
        return _build_first(wanted, desired, observed, status, scope, entries)
    if desired.replace_policy is not ReplacePolicy.DROP_FIRST:
        said = (
            f"The index {old.name} cannot change its {shown_fields(differing)} while it exists: set replacePolicy:"
            " DropFirst to have it dropped and built again (queries go without it meanwhile), or change it back."
        )
        return Plan(status, verdict=Verdict(Reason.NOT_IN_PLACE, said, stalled=True), drift=entries)
    actions = (DropIndex(desired.target, old.name), BuildIndex(desired.target, desired.name, wanted))
    return Plan(status, actions=actions, drift=entries)


def _build_first(
    wanted: IndexDefinition,
    desired: IndexDesired,
    observed: IndexObserved,
    status: IndexStatus,
    scope: Scope,
    entries: tuple[DriftEntry, ...],
) -> Plan[IndexStatus]:
    """Build the successor under a name of its own, which is recorded before it is made."""
    name = f"{desired.name}_g{status.observed_generation}"
    actions: list[Action] = []
    former, present = _former(observed, status), _named(observed.indexes, name)
    if present is not None and status.pending is not None and status.pending.index_name == name:
        former = present  # changed behind our back while it was built
    elif present is not None:
        said = f"{desired.target} has an index {name} that nobody recorded; drop it by hand to let the build begin."
        return Plan(status, verdict=Verdict(Reason.INDEX_CONFLICT, said, stalled=True))
    if former is not None:
        actions.append(DropIndex(desired.target, former.name))
    actions.append(BuildIndex(desired.target, name, wanted))
    superseded = _still_recorded(observed, status, former)
    status = status.model_copy(update={"pending": _pending(name, status), "superseded": superseded or None})
    said = f"The index {name} is built beside {status.index_name}, which is dropped afterwards."
    return Plan(
        status,
        actions=tuple(actions),
        journal=True,
        drift=entries,
        verdict=Verdict(Reason.REPLACING, said),
    )


def _still_recorded(
    observed: IndexObserved, status: IndexStatus, former: IndexState | None
) -> list[SupersededIndex]:
    """What must stay on record, since the drop may be cut off after `pending` was written over."""
    present = {index.name for index in observed.indexes or ()}
    kept = [entry for entry in status.superseded or () if entry.index_name in present]
    if former is not None and former.name not in {entry.index_name for entry in kept}:
        kept.append(SupersededIndex(index_name=former.name))
    return kept


def _in_place(name: str, desired: IndexDesired, change: IndexChange) -> tuple[Action, ...]:
    actions: list[Action] = []
    if change.unique:
        actions.append(ConvertToUnique(desired.target, name))
        change = replace(change, unique=None)
    if change != IndexChange():
        actions.append(ChangeIndex(desired.target, name, change))
    return tuple(actions)


def _blocked(
    old: IndexDefinition | None,
    wanted: IndexDefinition,
    desired: IndexDesired,
    observed: IndexObserved,
    status: IndexStatus,
) -> Plan[IndexStatus] | None:
    """What must be known or agreed to before the index may be made: duplicates, documents that would expire."""
    questions: list[object] = []
    if status.duplicates is not None and wanted.unique:
        questions.append(CheckDuplicates())
    seconds = wanted.expire_after_seconds
    before = old.expire_after_seconds if old is not None else None
    if seconds is not None and (before is None or seconds < before):
        questions.append(CountExpired(wanted.keys[0][0], seconds))
    unanswered = tuple(q for q in questions if q not in observed.answers)
    if unanswered:
        return Plan(status, questions=unanswered)
    for question in questions:
        blocked = _judged(question, observed.answers[question], desired, status)
        if blocked is not None:
            return blocked
    return None


def _judged(
    question: object, answer: Answer, desired: IndexDesired, status: IndexStatus
) -> Plan[IndexStatus] | None:
    if isinstance(answer, DuplicateReport):
        if not answer.groups:
            return None
        report, said = duplicates_said(answer)
        status = status.model_copy(update={"duplicates": report})
        return Plan(status, verdict=Verdict(Reason.DUPLICATE_KEYS, said, stalled=True))
    if answer == 0:
        return None
    counted = (
        f"delete up to {answer} documents at once"
        if answer
        else "delete documents (too many to count in time)"
    )
    refusal = consent.demand(
        desired.allow_data_loss, desired.target, counted, backup_before=desired.backup_before
    )
    if refusal is None:
        return None
    return Plan(status, verdict=Verdict(refusal.reason, refusal.message, stalled=True))


def duplicates_said(report: DuplicateReport) -> tuple[DuplicateSummary, str]:
    """The summary for status and the sentence for people, without any value of a document."""
    at_least = "" if report.complete else "at least "
    key_pattern = report.key_pattern
    if len(key_pattern) > KEY_PATTERN_LIMIT:
        key_pattern = f"{key_pattern[: KEY_PATTERN_LIMIT - 4]}...}}"
    said = (
        f"A unique index on {key_pattern} is not possible: {at_least}{report.groups} keys stand in more than"
        f" one document ({at_least}{report.documents} documents; status.duplicates names some by _id). Remove or"
        " change the duplicates; the index is then built by itself."
    )
    summary = DuplicateSummary(
        key_pattern=key_pattern,
        groups=report.groups,
        documents=report.documents,
        complete=report.complete,
        examples=[list(group[:5]) for group in report.examples[:5]] or None,
    )
    return summary, said


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


def _named(indexes: Sequence[IndexState] | None, name: str | None) -> IndexState | None:
    return next((ix for ix in indexes or () if ix.name == name), None)
