"""What to do about a collection. Pure: values in, values out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields, replace

from lucid_storage.errors import Reason
from lucid_storage.kinds import consent, drift, figures
from lucid_storage.kinds.collection import keyspaces
from lucid_storage.kinds.collection.actions import (
    ChangeCollection,
    CountExpired,
    CountViolations,
    CreateCollection,
    MeasureCollection,
)
from lucid_storage.kinds.collection.desired import EXPIRY, CollectionDesired
from lucid_storage.kinds.collection.differences import (
    Difference,
    differences,
    no_longer_declared,
    wanted_options,
)
from lucid_storage.kinds.collection.observed import CollectionObserved
from lucid_storage.kinds.contract import Plan, Scope, Verdict
from lucid_storage.kinds.protection import Need
from lucid_storage.models.backup import BackupEngine
from lucid_storage.models.base import DriftEntry, DriftPolicy, Origin
from lucid_storage.models.collection import CollectionStatus, ViolationReport
from lucid_storage.stores.mongodb.types import (
    Capped,
    CollectionChange,
    CollectionState,
    CollectionStats,
    JsonDoc,
    Violations,
)


def plan(
    desired: CollectionDesired, observed: CollectionObserved, status: CollectionStatus, scope: Scope
) -> Plan[CollectionStatus]:
    """One step towards the declaration."""
    status = status.model_copy(update={"drift_summary": "ignored" if _ignores(desired) else "none"})
    if observed.state is None:
        return _missing(desired, status, scope)
    status = _known(observed.state, observed.stats, status, scope)
    return _present(desired, observed, observed.state, status, scope)


def _missing(desired: CollectionDesired, status: CollectionStatus, scope: Scope) -> Plan[CollectionStatus]:
    lost = (drift.entry("collection", "present", "absent", scope.now),) if scope.settled else ()
    if scope.settled and desired.drift_policy is not DriftPolicy.CORRECT:
        return _reported(desired, Plan(status), lost, "The collection is gone: somebody else dropped it.")
    # An index, a shard key or a UUID of the former collection says nothing about the new one.
    status = status.model_copy(update={"uuid": None, "origin": None})
    return Plan(status, actions=(CreateCollection(desired.target, desired.options),), drift=lost)


def _present(
    desired: CollectionDesired,
    observed: CollectionObserved,
    state: CollectionState,
    status: CollectionStatus,
    scope: Scope,
) -> Plan[CollectionStatus]:
    misfit = _misfit(desired, state)
    if misfit is not None:
        return Plan(status, verdict=misfit)
    before = status.managed_fields or []
    found = differences(wanted_options(desired, before), state.options, observed.server)
    if scope.settled and desired.drift_policy is not DriftPolicy.CORRECT:
        finished = _finish(desired, observed, status, scope)
        return _reported(desired, finished, tuple(_entry(d, scope) for d in found), "")
    stuck = [d for d in found if d.change is None]
    gone = no_longer_declared(desired, before)
    if stuck or gone:
        return Plan(status, verdict=_not_in_place(stuck, gone, before), drift=_entries(stuck, scope))
    if found:
        return _change(desired, observed, status, found, scope)
    return _finish(desired, observed, status, scope)


def _change(
    desired: CollectionDesired,
    observed: CollectionObserved,
    status: CollectionStatus,
    found: Sequence[Difference],
    scope: Scope,
) -> Plan[CollectionStatus]:
    questions = _questions(desired, status, found)
    unanswered = tuple(q for q in questions if q not in observed.answers)
    if unanswered:
        return Plan(status, questions=unanswered)
    losses = [loss for d in found if (loss := _loss(observed, d)) is not None]
    for loss in losses:
        refusal = consent.demand(desired.allow_data_loss, desired.target, loss)
        if refusal is not None:
            return Plan(
                status,
                verdict=Verdict(refusal.reason, refusal.message, stalled=True),
                drift=_entries(found, scope),
            )
    status = _counted(desired, observed, status)
    change = _joined([d.change for d in found if d.change is not None])
    action = ChangeCollection(desired.target, change, tuple(d.field for d in found))
    protect = Need(BackupEngine.MONGODB, collections=(desired.target,))
    return Plan(
        status,
        actions=(action,),
        drift=_entries(found, scope),
        protect=protect if losses and desired.backup_before else None,
    )


def _finish(
    desired: CollectionDesired, observed: CollectionObserved, status: CollectionStatus, scope: Scope
) -> Plan[CollectionStatus]:
    """Everything in MongoDB is as declared; now the key spaces in Redis."""
    managed = desired.managed + (["cache"] if desired.cache else [])
    status = status.model_copy(update={"managed_fields": managed or None})
    if desired.options.validator is None:
        status = status.model_copy(update={"violations": None})
    cache = keyspaces.judge(
        desired, status.cache or [], observed.reports, observed.redis_trouble, observed.redis, scope.now
    )
    status = status.model_copy(update={"cache": cache.status or None})
    return Plan(
        status,
        actions=cache.actions,
        journal=bool(cache.actions),
        verdict=cache.verdict,
        message=_message(status, cache.message),
        recheck_seconds=cache.recheck_seconds,
        protect=Need(BackupEngine.REDIS) if cache.loses and desired.backup_before else None,
    )


def _message(status: CollectionStatus, cache_message: str) -> str:
    parts = []
    violations = status.violations
    if violations is not None and violations.violating:
        at_least = "" if violations.complete else "at least "
        parts.append(f"{at_least}{violations.violating} documents break the validator")
    if cache_message:
        parts.append(cache_message)
    return ("; ".join(parts)[:1].upper() + "; ".join(parts)[1:] + ".") if parts else ""


def _questions(
    desired: CollectionDesired, status: CollectionStatus, found: Sequence[Difference]
) -> list[object]:
    questions: list[object] = []
    for difference in found:
        if difference.shrinks_to is not None:
            questions.append(MeasureCollection())
        if difference.expires is not None:
            questions.append(CountExpired(*difference.expires))
        if difference.field == "validator" and _uncounted(desired, status):
            questions.append(CountViolations(_text(desired.options.validator or {})))
    return questions


def _uncounted(desired: CollectionDesired, status: CollectionStatus) -> bool:
    """A validator that refuses nothing needs no count, and one count for a validator is enough."""
    validator = desired.options.validator
    known = status.violations.validator_hash if status.violations else None
    return bool(validator) and known != _fingerprint(validator or {})


def _counted(
    desired: CollectionDesired, observed: CollectionObserved, status: CollectionStatus
) -> CollectionStatus:
    for question, answer in observed.answers.items():
        if isinstance(question, CountViolations) and isinstance(answer, Violations):
            report = ViolationReport(
                checked=answer.checked,
                violating=answer.violating,
                complete=answer.complete,
                validator_hash=_fingerprint(desired.options.validator or {}),
            )
            return status.model_copy(update={"violations": report})
    return status


def _loss(observed: CollectionObserved, difference: Difference) -> str | None:
    """What one change would lose."""
    if difference.shrinks_to is not None:
        stats = observed.answers[MeasureCollection()]
        return _cut_off(difference.shrinks_to, stats if isinstance(stats, CollectionStats) else None)
    if difference.expires is not None:
        count = observed.answers[CountExpired(*difference.expires)]
        return _expired(count if isinstance(count, int) else None)
    return None


def _cut_off(limits: Capped, stats: CollectionStats | None) -> str | None:
    if stats is None:
        return "cut off an unknown number of documents"
    if limits.max_documents and stats.documents > limits.max_documents:
        return f"cut off the oldest {stats.documents - limits.max_documents} of {stats.documents} documents"
    if stats.size_bytes > limits.size_bytes:
        return f"cut off the oldest {stats.size_bytes - limits.size_bytes} of {stats.size_bytes} bytes"
    return None


def _expired(count: int | None) -> str | None:
    if count is None:
        return "delete documents (too many to count in time)"
    return f"delete {count} documents at once" if count else None


def _joined(changes: Sequence[CollectionChange]) -> CollectionChange:
    given = {
        f.name: value
        for change in changes
        for f in fields(change)
        if (value := getattr(change, f.name)) is not None
    }
    return replace(CollectionChange(), **given)


def _misfit(desired: CollectionDesired, state: CollectionState) -> Verdict | None:
    if state.type == "view":
        said = f"{desired.target} is a view, and a Collection cannot manage one; choose another name."
        return Verdict(Reason.NOT_IN_PLACE, said, stalled=True)
    return None


def _not_in_place(stuck: Sequence[Difference], gone: Sequence[str], before: Sequence[str]) -> Verdict:
    if stuck:
        first = stuck[0]
        expected, actual = drift.shown(first.expected), drift.shown(first.actual)
        said = f"{first.field} is {actual} and should be {expected}. {first.refusal}"
    else:
        said = f"{gone[0]} cannot be undone in place; put it back into the spec, or recreate the collection."
        if f"{gone[0]}.{EXPIRY}" in before:
            said += f" Documents go on expiring; put {gone[0]} back without {EXPIRY} to end that."
    return Verdict(Reason.NOT_IN_PLACE, said, stalled=True)


def _reported(
    desired: CollectionDesired, plan: Plan[CollectionStatus], entries: tuple[DriftEntry, ...], said: str
) -> Plan[CollectionStatus]:
    """The plan with drift told, not corrected; under Ignore not even told."""
    if _ignores(desired) or not entries:
        return plan
    status = plan.status.model_copy(update={"drift_summary": drift.summary(entries)})
    told = said or "Drift is reported and not corrected (driftPolicy: Report)."
    return replace(plan, status=status, drift=entries, message=told)


def _known(
    state: CollectionState, stats: CollectionStats | None, status: CollectionStatus, scope: Scope
) -> CollectionStatus:
    update: dict[str, object] = {}
    if status.origin is None or (status.uuid is not None and status.uuid != state.uuid):
        update["origin"] = status.origin if status.uuid is None and status.origin else Origin.ADOPTED
    update["uuid"] = state.uuid
    if stats is not None:
        documents, size = status.documents, status.size_bytes
        if figures.moved(documents, stats.documents) or figures.moved(size, stats.size_bytes):
            update |= {
                "documents": stats.documents,
                "size_bytes": stats.size_bytes,
                "size": figures.size(stats.size_bytes),
                "stats_time": scope.now.replace(microsecond=0),
            }
    return status.model_copy(update=update)


def _entries(found: Sequence[Difference], scope: Scope) -> tuple[DriftEntry, ...]:
    """Drift is what differs on a settled resource; on a new generation a difference is work to do."""
    return tuple(_entry(d, scope) for d in found) if scope.settled else ()


def _entry(difference: Difference, scope: Scope) -> DriftEntry:
    return drift.entry(difference.field, difference.expected, difference.actual, scope.now)


def _ignores(desired: CollectionDesired) -> bool:
    return desired.drift_policy is DriftPolicy.IGNORE


def _text(document: JsonDoc) -> str:
    return json.dumps(document, sort_keys=True)


def _fingerprint(document: JsonDoc) -> str:
    return hashlib.sha256(_text(document).encode()).hexdigest()[:16]
