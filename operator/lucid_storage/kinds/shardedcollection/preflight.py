"""When to examine the documents, and what comes of it. Pure; the judging is in `judgement`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from lucid_storage.errors import Reason
from lucid_storage.kinds.contract import Scope, Verdict
from lucid_storage.kinds.shardedcollection import judgement
from lucid_storage.kinds.shardedcollection.actions import NO_DOCUMENTS, ExamineKey, KeyFindings
from lucid_storage.kinds.shardedcollection.desired import ShardedDesired, shown_key
from lucid_storage.kinds.shardedcollection.observed import ShardedObserved
from lucid_storage.models.shardedcollection import Preflight, PreflightCheck, ShardedCollectionStatus
from lucid_storage.stores.mongodb.sharding.supporting import supporting_indexes

EXAMINED_FOR = timedelta(minutes=10)
"""How long a key stays refused by what the documents said: it must not cost a scan at every look. What was said before
never allows anything: right before what cannot be undone they are examined again.
"""
BUILDING_SECONDS = 5.0
_OF_INDEXES = frozenset({judgement.SUPPORTING_INDEX, judgement.UNIQUE_INDEXES})


@dataclass(frozen=True, slots=True)
class Examined:
    """What came of the pre-flight. With neither questions nor a verdict the change may be made."""

    status: ShardedCollectionStatus
    questions: tuple[object, ...] = ()
    verdict: Verdict | None = None
    recheck_seconds: float | None = None


def examine(
    desired: ShardedDesired,
    observed: ShardedObserved,
    status: ShardedCollectionStatus,
    scope: Scope,
    *,
    changing: bool = False,
    refining: bool = False,
) -> Examined:
    """Judge the key. `changing`: the collection is sharded already, by another key, which `refining` extends."""
    assert observed.cluster is not None
    support = supporting_indexes(desired.key, observed.indexes or ())
    question = ExamineKey(desired.key, duplicates=bool(desired.unique) and not support.unique_names)
    known = _still_good(status.preflight, desired, status.observed_generation, scope.now)
    found = NO_DOCUMENTS if observed.collection is None else observed.answers.get(question)
    if found is None and known is None:
        return Examined(status, questions=(question,))
    if found is not None:
        about = judgement.of_documents(desired, found, len(observed.cluster.shards))
        made = _preflight(desired, found, about, status, scope.now)
    else:
        assert known is not None
        made = known
        proved = _OF_INDEXES if question.duplicates else _OF_INDEXES | {judgement.UNIQUENESS}
        about = [check for check in known.checks if check.check not in proved]
    empty = made.documents == 0
    checks = [*judgement.of_indexes(desired, support, empty=empty, changing=changing), *about]
    made = made.model_copy(update={"checks": checks, "verdict": judgement.worst(checks)})
    verdict = judgement.hindrance(desired, checks, refining=refining)
    if verdict is None and found is None:
        return Examined(status, questions=(question,))
    status = status.model_copy(update={"preflight": made})
    if verdict is not None and verdict.reason is Reason.SUPPORTING_INDEX_MISSING:
        return _waiting(status, verdict, observed, building=_building(support.unfit))
    return Examined(status, verdict=verdict)


def _still_good(
    known: Preflight | None, desired: ShardedDesired, generation: int | None, now: datetime
) -> Preflight | None:
    """What was found before, if it is about this declaration, not too old, and about documents at all."""
    if known is None or known.generation != generation or known.key != shown_key(desired.key):
        return None
    if not known.documents or now - known.checked_at >= EXAMINED_FOR:
        return None
    return known


def _preflight(
    desired: ShardedDesired,
    found: KeyFindings,
    checks: list[PreflightCheck],
    status: ShardedCollectionStatus,
    now: datetime,
) -> Preflight:
    return Preflight(
        checked_at=now.replace(microsecond=0),
        generation=status.observed_generation,
        key=shown_key(desired.key),
        documents=found.about,
        sampled=found.sample.sampled if found.sample is not None else None,
        verdict=judgement.worst(checks),
        checks=checks,
    )


def _building(unfit: tuple[tuple[str, str], ...]) -> str | None:
    return next((name for name, why in unfit if "being built" in why), None)


def _waiting(
    status: ShardedCollectionStatus, verdict: Verdict, observed: ShardedObserved, building: str | None
) -> Examined:
    """An index that is being made is waited for; else somebody must declare one."""
    if building is not None:
        said = f"Waits until the index {building}, which carries the shard key, is built."
        waiting = Verdict(verdict.reason, said)
        return Examined(status, verdict=waiting, recheck_seconds=BUILDING_SECONDS)
    if observed.neighbours.indexes:
        said = f"Waits for the Index {observed.neighbours.indexes[0]}, which carries the shard key."
        return Examined(status, verdict=Verdict(verdict.reason, said))
    return Examined(status, verdict=verdict)
