"""What to do about a monthly series. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lucid_storage.errors import Reason
from lucid_storage.kinds import drift, figures
from lucid_storage.kinds.contract import Plan, Scope, Verdict
from lucid_storage.kinds.index_elasticsearch import (
    health,
    losses,
    mappings,
    ownership,
    policy,
    series,
    steps,
    template,
)
from lucid_storage.kinds.index_elasticsearch.actions import DeleteIndex
from lucid_storage.kinds.index_elasticsearch.desired import ElasticDesired
from lucid_storage.kinds.index_elasticsearch.months import (
    Month,
    index_name,
    seconds_to_next_month,
    wildcard,
)
from lucid_storage.kinds.index_elasticsearch.policy import by_policy
from lucid_storage.kinds.index_elasticsearch.series import Series
from lucid_storage.kinds.index_elasticsearch.steps import Difference, Step
from lucid_storage.kinds.protection import Need
from lucid_storage.models.backup import BackupEngine
from lucid_storage.models.base import DriftPolicy, Origin
from lucid_storage.models.elasticindex import ManagedBy
from lucid_storage.models.index import ElasticStatus, Engine, IndexStatus
from lucid_storage.stores.elasticsearch.types import (
    ElasticIndexState,
    ElasticInfo,
    LifecyclePolicyState,
    TemplateState,
)

RED_RECHECK_SECONDS = 15.0
AFTER_THE_TURN_SECONDS = 1.0
"""So that the clock has surely turned when the month is looked at."""


@dataclass(frozen=True, slots=True)
class ElasticObserved:
    """What was seen."""

    server: ElasticInfo
    template: TemplateState | None
    indices: tuple[ElasticIndexState, ...]
    """Those of the series, the oldest first."""
    policy: LifecyclePolicyState | None = None
    name_taken: bool = False
    """A real index has the name of the write alias."""
    figures_due: bool = True
    """The figures in status may move again."""


def plan(
    desired: ElasticDesired, observed: ElasticObserved, status: IndexStatus, scope: Scope
) -> Plan[IndexStatus]:
    """One step towards the declaration."""
    status = status.model_copy(
        update={
            "engine": Engine.ELASTICSEARCH,
            "keys": desired.stem,
            "progress": "",
            "drift_summary": "ignored" if desired.drift_policy is DriftPolicy.IGNORE else "none",
        }
    )
    obstacle = _obstacle(desired, observed, status, scope)
    if obstacle is not None:
        return Plan(status, verdict=Verdict(Reason.INDEX_CONFLICT, obstacle, stalled=True))
    overdue = losses.overdue(desired, observed.indices, scope.now)
    served = by_policy(desired, observed.server)
    left_alone: tuple[ElasticIndexState, ...] = ()
    if scope.settled:
        oldest = (status.elasticsearch or ElasticStatus()).oldest
        left_alone = losses.left_alone(desired, overdue, oldest, by_policy=served)
    going = [index for index in overdue if index not in left_alone]
    lost: tuple[ElasticIndexState, ...] = ()
    # What the operator itself deletes in a settled series was agreed to; what the server would, once put back, was not.
    if not scope.settled or (served and desired.drift_policy is DriftPolicy.CORRECT):
        lost = losses.caused(desired, going, observed.policy, scope.now, by_policy=served)
    found = _series(desired, observed, status, scope, left_alone)
    refused = losses.refusal(desired, lost)
    if refused is not None:
        verdict = Verdict(refused.reason, refused.message, stalled=True)
        return _held_back(_steps(found, observed, scope, ()), status, scope, verdict)
    kept = going if scope.forbid_drops and not served else []
    step = _converge(found, observed, status, scope, left_alone, [ix for ix in going if ix not in kept])
    if kept:
        return replace(step, message=" ".join(filter(None, (step.message, health.kept(kept)))))
    if lost and desired.backup_before and step.actions:
        return replace(step, protect=Need(BackupEngine.ELASTICSEARCH, indices=(wildcard(desired.stem),)))
    return step


def _held_back(
    todo: Sequence[Step], status: IndexStatus, scope: Scope, verdict: Verdict
) -> Plan[IndexStatus]:
    """Nothing is made that was not agreed to; of a settled series the months turn all the same."""
    if not scope.settled:
        return Plan(status, verdict=verdict)
    upkeep = [step for step in todo if step.upkeep]
    if upkeep:
        return Plan(status, actions=steps.actions(upkeep))
    return Plan(status, verdict=verdict, drift=steps.entries(todo, scope.now))


def _converge(
    found: Series,
    observed: ElasticObserved,
    status: IndexStatus,
    scope: Scope,
    left_alone: Sequence[ElasticIndexState],
    going: Sequence[ElasticIndexState],
) -> Plan[IndexStatus]:
    desired = found.desired
    todo = _steps(found, observed, scope, going)
    if scope.settled and desired.drift_policy is not DriftPolicy.CORRECT:
        upkeep = [step for step in todo if step.upkeep]
        if upkeep:
            return Plan(status, actions=steps.actions(upkeep))
        return _reported(_finish(found, observed, status, scope, left_alone), todo, scope)
    impossible = mappings.retyped(d for step in series.mapping_steps(found) for d in step.differences)
    if impossible:
        return _mapping_conflict(status, impossible[0], todo, scope)
    if todo:
        managed = list(dict.fromkeys([*(status.managed_fields or []), *desired.managed]))
        return Plan(
            status.model_copy(update={"managed_fields": managed or None}),
            actions=steps.actions(todo),
            # What is made now must be undone when its field is removed, also after a crash in between.
            journal=managed != (status.managed_fields or []),
            drift=steps.entries(todo, scope.now) if scope.settled else (),
        )
    return _finish(found, observed, status, scope, left_alone)


def _obstacle(
    desired: ElasticDesired, observed: ElasticObserved, status: IndexStatus, scope: Scope
) -> str | None:
    if observed.name_taken:
        return (
            f"An index is named {desired.stem}, so the write alias of this series cannot have that name. Move its"
            f" documents into {index_name(desired.stem, Month.at(scope.now))} (_reindex) and delete it, or choose"
            " another pattern."
        )
    known = status.elasticsearch or ElasticStatus()
    there = observed.template
    if (
        there is not None
        and known.template != there.name
        and not ownership.made_template(there, desired.owner)
    ):
        fields = template.obstacles(desired, there, _months(desired, scope))
        if fields:
            return _foreign("an index template", desired, fields)
    if desired.lifecycle is not None and by_policy(desired, observed.server) and known.policy != desired.stem:
        fields = policy.obstacles(desired, desired.lifecycle, observed.policy)
        if fields:
            return _foreign("a lifecycle policy", desired, fields)
    return None


def _foreign(what: str, desired: ElasticDesired, fields: Sequence[str]) -> str:
    more = f" and {len(fields) - 5} more" if len(fields) > 5 else ""
    return (
        f"Elasticsearch has {what} {desired.stem} that differs from this declaration in {', '.join(fields[:5])}{more}."
        " Make the declaration equal to adopt it, or delete it by hand."
    )


def _series(
    desired: ElasticDesired,
    observed: ElasticObserved,
    status: IndexStatus,
    scope: Scope,
    left_alone: Sequence[ElasticIndexState],
) -> Series:
    known = status.elasticsearch or ElasticStatus()
    month = Month.at(scope.now)
    return Series(
        desired=desired,
        indices=tuple(ix for ix in observed.indices if ix not in left_alone),
        month=month,
        known=frozenset(name for name in (known.write_index, known.next_index) if name is not None),
        turned=known.write_index != index_name(desired.stem, month),
        dropped=[name for name in status.managed_fields or [] if name not in desired.managed],
        by_policy=by_policy(desired, observed.server),
    )


def _steps(
    found: Series, observed: ElasticObserved, scope: Scope, overdue: Sequence[ElasticIndexState]
) -> list[Step]:
    """All that is to do, in an order in which the server's refusal of the first leaves the rest untouched."""
    desired = found.desired
    result: list[Step] = []
    result += series.limit_steps(found)
    result += series.mapping_steps(found)
    result += series.setting_steps(found)
    if desired.lifecycle is not None and found.by_policy:
        result += policy.steps(desired, desired.lifecycle, observed.policy)
    result += template.step(
        desired,
        observed.template,
        found.dropped,
        _months(desired, scope),
        by_policy=found.by_policy,
        settled=scope.settled,
    )
    result += series.alias_steps(found)
    result += series.creation_steps(found)
    result += series.lifecycle_steps(found)
    if not found.by_policy:
        result += policy.removal(desired, observed.policy)
        result += [
            Step(
                DeleteIndex(ix.name, ix.uuid, ix.documents),
                (Difference("lifecycle", "", ix.name),),
                upkeep=True,
            )
            for ix in overdue
        ]
    return result


def _finish(
    found: Series,
    observed: ElasticObserved,
    status: IndexStatus,
    scope: Scope,
    left_alone: Sequence[ElasticIndexState],
) -> Plan[IndexStatus]:
    """Everything is as declared, or only told."""
    desired = found.desired
    worst = health.worst(found.indices)
    ours = ownership.made_template(observed.template, desired.owner)
    status = status.model_copy(
        update={
            "origin": Origin.CREATED if ours else Origin.ADOPTED,
            "managed_fields": desired.managed or None,
            "elasticsearch": ElasticStatus(
                template=desired.stem,
                write_alias=desired.stem,
                write_index=found.current,
                next_index=found.following,
                indices=len(found.indices),
                oldest=str(found.oldest) if found.oldest is not None else None,
                policy=desired.stem if found.by_policy else None,
                managed_by=_managed_by(found),
                health=worst,
            ),
            **_figures(found.indices, observed, status),
        }
    )
    turn = seconds_to_next_month(scope.now) + AFTER_THE_TURN_SECONDS
    trouble = health.red(found.indices) or health.unwritable(found)
    return Plan(
        status,
        verdict=Verdict(Reason.UNHEALTHY, trouble) if trouble else None,
        message=health.message(found, observed.server, left_alone),
        recheck_seconds=min(turn, RED_RECHECK_SECONDS) if trouble else turn,
    )


def _managed_by(found: Series) -> ManagedBy | None:
    if found.desired.lifecycle is None:
        return None
    return ManagedBy.SERVER if found.by_policy else ManagedBy.OPERATOR


def _figures(
    indices: Sequence[ElasticIndexState], observed: ElasticObserved, status: IndexStatus
) -> dict[str, int]:
    documents, size = sum(ix.documents for ix in indices), sum(ix.bytes for ix in indices)
    moved = figures.moved(status.documents, documents) or figures.moved(status.size_bytes, size)
    return {"documents": documents, "size_bytes": size} if observed.figures_due and moved else {}


def _mapping_conflict(
    status: IndexStatus, first: Difference, todo: Sequence[Step], scope: Scope
) -> Plan[IndexStatus]:
    expected, actual = drift.shown(first.expected), drift.shown(first.actual)
    said = f"{first.field} is {actual} and should be {expected}. {mappings.WAY_OUT}"
    entries = steps.entries(todo, scope.now) if scope.settled else ()
    return Plan(status, verdict=Verdict(Reason.MAPPING_CONFLICT, said, stalled=True), drift=entries)


def _reported(finished: Plan[IndexStatus], todo: Sequence[Step], scope: Scope) -> Plan[IndexStatus]:
    """The plan with drift told, not corrected; under Ignore not even told."""
    entries = steps.entries(todo, scope.now)
    if finished.status.drift_summary == "ignored" or not entries:
        return finished
    status = finished.status.model_copy(update={"drift_summary": drift.summary(entries)})
    told = "Drift is reported and not corrected (driftPolicy: Report)."
    return replace(
        finished, status=status, drift=entries, message=" ".join(filter(None, (told, finished.message)))
    )


def _months(desired: ElasticDesired, scope: Scope) -> tuple[str, str]:
    """Names that a template must match."""
    month = Month.at(scope.now)
    return index_name(desired.stem, month), index_name(desired.stem, month.next)
