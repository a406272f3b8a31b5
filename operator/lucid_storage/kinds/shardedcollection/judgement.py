"""The pre-flight: is this a shard key that one would not regret? Pure: figures in, sentences out.

What the server would refuse is Refused. What it would take and nobody could easily mend is Poor, what could not be read
is Unknown, and both wait for consent. Background: https://www.mongodb.com/docs/manual/core/sharding-choose-a-shard-key/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lucid_storage.errors import Reason
from lucid_storage.kinds.contract import Verdict
from lucid_storage.kinds.index_mongodb.checks import duplicates_said
from lucid_storage.kinds.shardedcollection.actions import KeyFindings
from lucid_storage.kinds.shardedcollection.desired import ShardedDesired, shown_key
from lucid_storage.models.meta import ACCEPT_SHARD_KEY
from lucid_storage.models.shardedcollection import KeyVerdict, PreflightCheck
from lucid_storage.stores.mongodb.sharding.types import KeyGaps, KeySample, ShardKey, SupportingIndexes

ENOUGH_DOCUMENTS = 100
"""A smaller sample says nothing about a key."""
POOR_SHARE, ACCEPTABLE_SHARE = 0.5, 0.1
"""Share of the documents with the commonest key: they lie in one chunk, which cannot be split."""
POOR_GAPS = 0.1
"""Share of the documents without a value of the key."""
FEW_KEYS_A_SHARD = 4
"""Fewer distinct keys than this for each shard cannot be balanced: a key cannot be split."""
MANY_KEYS = 100
"""Distinct keys in a sample from which on splitting is no question."""
RISING, LEANING = 0.9, 0.6
"""Correlation of the key's order with that of insertion: above, new documents all go to the last chunk."""
SHOWN_SHARE = 0.5
"""Of the documents that primaries count, those that a scan to its end must have found. The count is from metadata."""
PLACE = "on secondaries where a shard has one"
LINE = 500
"""Characters of a check's sentence."""

ORDER = (
    KeyVerdict.GOOD,
    KeyVerdict.ACCEPTABLE,
    KeyVerdict.UNKNOWN,
    KeyVerdict.POOR,
    KeyVerdict.REFUSED,
)

SUPPORTING_INDEX, UNIQUE_INDEXES = "SupportingIndex", "UniqueIndexes"
UNIQUENESS = "Uniqueness"
"""What a unique index of the key proves, whatever the documents said before it was there."""
_REASONS = {
    SUPPORTING_INDEX: Reason.SUPPORTING_INDEX_MISSING,
    UNIQUE_INDEXES: Reason.INDEX_CONFLICT,
    UNIQUENESS: Reason.DUPLICATE_KEYS,
}


def worst(checks: Sequence[PreflightCheck]) -> KeyVerdict:
    """Of all checks."""
    return max((check.verdict for check in checks), key=ORDER.index, default=KeyVerdict.GOOD)


def hindrance(
    desired: ShardedDesired, checks: Sequence[PreflightCheck], *, refining: bool = False
) -> Verdict | None:
    """Why it may not be done, or None. A refined key is never poorer than the one it extends."""
    for check in checks:
        if check.verdict is KeyVerdict.REFUSED:
            reason = _REASONS.get(check.check, Reason.SERVER_REFUSED)
            return Verdict(reason, check.message, stalled=True)
    if refining or desired.accepted_key == shown_key(desired.key):
        return None
    consent = f'by the annotation {ACCEPT_SHARD_KEY}: "{shown_key(desired.key)}"'
    poor = next((check for check in checks if check.verdict is KeyVerdict.POOR), None)
    if poor is not None:
        said = f"{poor.message} A shard key is hard to change: choose a better one, or accept this one {consent}."
        return Verdict(Reason.POOR_SHARD_KEY, said, stalled=True)
    unknown = next((check for check in checks if check.verdict is KeyVerdict.UNKNOWN), None)
    if unknown is not None:
        said = (
            f"{unknown.message} A shard key is hard to change: it is examined again after 10 minutes, or accept it"
            f" unseen {consent}."
        )
        return Verdict(Reason.SHARD_KEY_UNKNOWN, said, stalled=True)
    return None


def of_indexes(
    desired: ShardedDesired, support: SupportingIndexes, *, empty: bool, changing: bool = False
) -> list[PreflightCheck]:
    """What the indexes say; cheap, so that it is asked for at every look.

    `changing`: the collection is sharded already, and the server makes no index by itself.
    """
    checks = [_supporting(desired, support, made=empty and not changing)]
    if support.unique_conflicts:
        names = ", ".join(support.unique_conflicts)
        checks.append(
            _check(
                UNIQUE_INDEXES,
                KeyVerdict.REFUSED,
                f"A shard cannot enforce the unique index {names}, since it does not begin with the shard key"
                f" {shown_key(desired.key)}: drop it, make it begin with the key, or choose another key.",
            )
        )
    return checks


def of_documents(desired: ShardedDesired, found: KeyFindings, shards: int) -> list[PreflightCheck]:
    """What the documents say."""
    if found.empty:
        return [
            _check(
                "Cardinality",
                KeyVerdict.ACCEPTABLE,
                "The collection is empty, by its primaries and a majority of their members, so nothing can be said of"
                " the key's values.",
            )
        ]
    return [
        _coverage(found),
        *_uniqueness(found),
        *_gaps(desired.key, found.gaps, found.sample),
        *_sampled(desired.key, found, shards),
    ]


def _coverage(found: KeyFindings) -> PreflightCheck:
    """What was read, and from where. Members that lag show fewer documents than there are."""
    checked, complete = found.gaps.checked, found.gaps.complete
    sampled = found.sample.sampled if found.sample is not None else 0
    total = f" of about {found.about}" if found.documents is not None else ""
    if not checked and not sampled:
        said = (
            f"None{total} documents could be read {PLACE}, and the primaries have some: see that all members answer and"
            " are up to date."
        )
        return _check("Coverage", KeyVerdict.UNKNOWN, said)
    read = f"{checked}{total} documents were looked at and {sampled} drawn as a sample, {PLACE}"
    if complete and checked < found.about * SHOWN_SHARE:
        said = f"Only {read}: the members that were read lag behind their primaries, so wait until they caught up."
        return _check("Coverage", KeyVerdict.UNKNOWN, said)
    if complete and sampled:
        return _check("Coverage", KeyVerdict.GOOD, f"{read}.")
    return _check("Coverage", KeyVerdict.ACCEPTABLE, f"{read}; the time was not enough for all.")


def _supporting(desired: ShardedDesired, support: SupportingIndexes, *, made: bool) -> PreflightCheck:
    fit = support.unique_names if desired.unique else support.names
    if fit:
        return _check(SUPPORTING_INDEX, KeyVerdict.GOOD, f"The index {fit[0]} carries the shard key.")
    if made:
        said = "The collection is empty: the server makes the index together with the shard key."
        return _check(SUPPORTING_INDEX, KeyVerdict.GOOD, said)
    unfit = "".join(f" The index {name} does not serve: {why}." for name, why in support.unfit[:2])
    wanted = "No unique index is exactly" if desired.unique else "No index begins with"
    return _check(
        SUPPORTING_INDEX,
        KeyVerdict.REFUSED,
        f"{wanted} the shard key {shown_key(desired.key)}.{unfit} Apply an Index with {index_offer(desired)}.",
    )


def index_offer(desired: ShardedDesired) -> str:
    """The spec of an Index that would carry the key, to be copied."""
    keys = ", ".join(f"{{field: {field}, order: {order}}}" for field, order in desired.key)
    unique = ", unique: true" if desired.unique else ""
    return (
        "spec: {engine: mongodb, mongodb: {"
        f"database: {desired.database}, collection: {desired.collection}, keys: [{keys}]{unique}}}}}"
    )


def _uniqueness(found: KeyFindings) -> Iterator[PreflightCheck]:
    report = found.duplicates
    if report is None:
        return
    if report.groups:
        summary, _ = duplicates_said(report)
        at_least = "" if report.complete else "at least "
        yield _check(
            UNIQUENESS,
            KeyVerdict.REFUSED,
            f"{at_least}{report.groups} keys {summary.key_pattern} stand in more than one document"
            f" ({at_least}{report.documents} documents): remove the duplicates, or do not ask for unique.",
        )
    elif report.complete:
        yield _check(UNIQUENESS, KeyVerdict.GOOD, "No two documents share a key.")
    else:
        said = (
            "No two documents share a key among those that could be read in time; the server checks them all."
        )
        yield _check(UNIQUENESS, KeyVerdict.ACCEPTABLE, said)


def _gaps(key: ShardKey, gaps: KeyGaps, sample: KeySample | None) -> Iterator[PreflightCheck]:
    at_least = "" if gaps.complete else "at least "
    if gaps.arrays:
        yield _check(
            "ArrayKeys",
            KeyVerdict.REFUSED,
            f"{at_least}{gaps.arrays} documents have an array in {shown_key(key)}, which no shard key can have:"
            " change them, or choose another key.",
        )
    checked, missing = _missing(gaps, sample)
    if not checked:
        said = "Whether documents lack a value of the key could not be read in time."
        yield _check("NullKeys", KeyVerdict.UNKNOWN, said)
        return
    if not missing and gaps.complete:
        yield _check("NullKeys", KeyVerdict.GOOD, "Every document has a value of the key.")
        return
    if not missing:
        said = f"None of the {checked} documents that could be read in time lacks a value of the key."
        yield _check("NullKeys", KeyVerdict.ACCEPTABLE, said)
        return
    verdict = KeyVerdict.POOR if missing / checked >= POOR_GAPS else KeyVerdict.ACCEPTABLE
    yield _check(
        "NullKeys",
        verdict,
        f"{at_least}{missing} of {checked} documents lack a value of the key; they all go to one chunk.",
    )


def _missing(gaps: KeyGaps, sample: KeySample | None) -> tuple[int, int]:
    """Documents looked at, and those without a value: a sample is random, while a scan cut short saw the first ones."""
    checked, missing = gaps.checked, gaps.missing
    if gaps.complete or sample is None or not sample.sampled:
        return checked, missing
    if not checked or sample.missing / sample.sampled > missing / checked:
        return sample.sampled, sample.missing
    return checked, missing


def _sampled(key: ShardKey, found: KeyFindings, shards: int) -> Iterator[PreflightCheck]:
    sample = found.sample
    if sample is None or not sample.sampled:
        said = "No sample could be read in time, so nothing can be said of the key's values."
        yield _check("Cardinality", KeyVerdict.UNKNOWN, said)
        return
    if sample.sampled < min(ENOUGH_DOCUMENTS, found.about * SHOWN_SHARE):
        said = f"A sample of {sample.sampled} out of about {found.about} documents is too small to judge the key by."
        yield _check("Cardinality", KeyVerdict.UNKNOWN, said)
        return
    if sample.sampled < ENOUGH_DOCUMENTS:
        said = f"{sample.sampled} documents are too few to judge the key by."
        yield _check("Cardinality", KeyVerdict.ACCEPTABLE, said)
        return
    yield _cardinality(sample, shards)
    if key[0][1] == "hashed":
        yield _check(
            "Monotonicity", KeyVerdict.GOOD, "The key begins hashed, so new documents go everywhere."
        )
    else:
        yield _monotonicity(sample)


def _cardinality(sample: KeySample, shards: int) -> PreflightCheck:
    share = sample.most_frequent_share
    found = f"{sample.distinct} different keys in {sample.sampled} documents, the commonest in {share:.0%} of them"
    if sample.distinct < FEW_KEYS_A_SHARD * max(2, shards):
        why = (
            f"Too few values for {shards} shards, since the documents of one value cannot be split: {found}."
        )
        return _check("Cardinality", KeyVerdict.POOR, why)
    if share >= POOR_SHARE:
        why = f"One value is so common that its shard carries most of the load: {found}."
        return _check("Cardinality", KeyVerdict.POOR, why)
    if share >= ACCEPTABLE_SHARE or sample.distinct < MANY_KEYS:
        return _check("Cardinality", KeyVerdict.ACCEPTABLE, f"Few or uneven values: {found}.")
    return _check("Cardinality", KeyVerdict.GOOD, f"Enough values: {found}.")


def _monotonicity(sample: KeySample) -> PreflightCheck:
    correlation = sample.correlation
    if correlation is None:
        said = "Whether the key rises with time cannot be told."
        return _check("Monotonicity", KeyVerdict.ACCEPTABLE, said)
    strength = abs(correlation)
    way = "rises" if correlation > 0 else "falls"
    if strength >= RISING:
        said = (
            f"The key {way} with every new document (correlation {correlation:.2f}), so all inserts go to one shard;"
            " a hashed key spreads them."
        )
        return _check("Monotonicity", KeyVerdict.POOR, said)
    if strength >= LEANING:
        said = (
            f"The key {way} with time by and large (correlation {correlation:.2f}); watch where inserts go."
        )
        return _check("Monotonicity", KeyVerdict.ACCEPTABLE, said)
    return _check("Monotonicity", KeyVerdict.GOOD, "The key does not follow the order of insertion.")


def _check(name: str, verdict: KeyVerdict, message: str) -> PreflightCheck:
    text = message[:1].upper() + message[1:]
    return PreflightCheck(
        check=name, verdict=verdict, message=text if len(text) <= LINE else f"{text[: LINE - 1]}…"
    )
