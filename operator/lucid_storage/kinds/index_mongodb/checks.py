"""What must be known or agreed to before an index is made: duplicates, documents that would expire. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from lucid_storage.errors import Reason
from lucid_storage.kinds import consent
from lucid_storage.kinds.contract import Plan, Verdict
from lucid_storage.kinds.index_mongodb.actions import CheckDuplicates, CountExpired
from lucid_storage.kinds.index_mongodb.desired import IndexDesired
from lucid_storage.models.index import DuplicateSummary, IndexStatus
from lucid_storage.stores.mongodb.definition import same_definition
from lucid_storage.stores.mongodb.types import DuplicateReport, IndexDefinition

KEY_PATTERN_LIMIT = 400
"""Characters of a key pattern that are shown: 32 fields can have 8,000."""

Answer = DuplicateReport | int | None


def blocked(
    old: IndexDefinition | None,
    wanted: IndexDefinition,
    desired: IndexDesired,
    answers: Mapping[object, Answer],
    status: IndexStatus,
) -> Plan[IndexStatus] | None:
    """What must be known or agreed to before the index may be made: duplicates, documents that would expire."""
    questions: list[object] = []
    if status.duplicates is not None and wanted.unique:
        questions.append(CheckDuplicates())
    seconds = wanted.expire_after_seconds
    if seconds is not None and (old is None or _expires_more(wanted, old)):
        questions.append(CountExpired(wanted.keys[0][0], seconds))
    unanswered = tuple(q for q in questions if q not in answers)
    if unanswered:
        return Plan(status, questions=unanswered)
    for question in questions:
        found = _judged(question, answers[question], desired, status)
        if found is not None:
            return found
    return None


def _expires_more(wanted: IndexDefinition, old: IndexDefinition) -> bool:
    """Whether documents may expire that live on under the old index: of another date, sooner, or of another part."""
    before = old.expire_after_seconds
    if before is None or wanted.expire_after_seconds is None or wanted.expire_after_seconds < before:
        return True
    return bool({"keys", "partial_filter"} & set(same_definition(wanted, old)))


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
    refusal = consent.demand(desired.allow_data_loss, desired.target, counted)
    if refusal is None:
        return None
    return Plan(status, verdict=Verdict(refusal.reason, refusal.message, stalled=True))


def loses(answers: Mapping[object, Answer]) -> bool:
    """Whether what is about to be made deletes documents at once, as far as was asked."""
    return any(isinstance(question, CountExpired) and answer != 0 for question, answer in answers.items())


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
