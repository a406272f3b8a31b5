"""What to say and do about the Redis key spaces of a Collection. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from lucid_storage.errors import LucidError, Reason, StoreUnavailableError
from lucid_storage.kinds import consent, figures
from lucid_storage.kinds.collection.desired import CollectionDesired
from lucid_storage.kinds.contract import Action, Verdict
from lucid_storage.models.collection import KeySpaceStatus
from lucid_storage.stores.redis.types import KeySpace, KeySpaceReport, RedisInfo

FIRST_SCAN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class EnforceKeySpaces:
    """From now on, keys of these patterns without a TTL get one."""

    spaces: tuple[KeySpace, ...]
    place: str
    """The Redis in which that was agreed to."""

    def describe(self) -> str:
        named = ", ".join(s.pattern for s in self.spaces if s.enforce)
        return f"set TTLs on keys of {named} that have none"


@dataclass(frozen=True, slots=True)
class CacheJudgement:
    """The cache's part of a plan."""

    status: list[KeySpaceStatus]
    verdict: Verdict | None = None
    actions: tuple[Action, ...] = ()
    message: str = ""
    recheck_seconds: float | None = None
    loses: bool = False
    """The actions make keys expire that would have lived on."""


def effective(
    declared: Sequence[KeySpace], known: Sequence[KeySpaceStatus], server: RedisInfo
) -> tuple[KeySpace, ...]:
    """The key spaces as they may be scanned now: a TTL is set only where enforcing was agreed to before."""
    enforced = _enforced_there(known, server)
    return tuple(replace(s, enforce=s.enforce and s.pattern in enforced) for s in declared)


def judge(
    desired: CollectionDesired,
    known: Sequence[KeySpaceStatus],
    reports: Mapping[str, KeySpaceReport] | None,
    trouble: LucidError | None,
    server: RedisInfo | None,
    now: datetime,
) -> CacheJudgement:
    """Status, refusals and the first enforcement. `server` is what answers now, known where there is no trouble."""
    before = {k.key_pattern: k for k in known}
    kept = [before.get(s.pattern) or KeySpaceStatus(key_pattern=s.pattern) for s in desired.cache]
    if not desired.cache:
        return CacheJudgement([])
    scanned = all(k.scanned_at is not None for k in kept)
    if scanned and isinstance(trouble, StoreUnavailableError) and trouble.grace_seconds > 0:
        return CacheJudgement(kept, message=_strays(kept), recheck_seconds=trouble.grace_seconds)
    if trouble is not None:
        return CacheJudgement(kept, verdict=Verdict(trouble.reason, trouble.message, stalled=trouble.stalled))
    assert server is not None
    enforced = _enforced_there(kept, server)
    fresh = [s for s in desired.cache if s.enforce and s.pattern not in enforced]
    if reports is None or any(s.pattern not in reports for s in desired.cache):
        if scanned and not fresh:
            return CacheJudgement(kept, message=_strays(kept))  # scanned before this process began
        waiting = Verdict(Reason.PROGRESSING, "The keys in Redis are being counted.")
        return CacheJudgement(kept, verdict=waiting, recheck_seconds=FIRST_SCAN_SECONDS)
    status = [_moved(k, reports[k.key_pattern], now) for k in kept]
    refusal = _refusal(desired, fresh, reports) or _unwritable(desired, reports)
    if refusal is not None:
        return CacheJudgement(
            status, verdict=Verdict(refusal.reason, refusal.message, stalled=refusal.stalled)
        )
    judged = _enforced(desired, status, server)
    return replace(judged, loses=bool(judged.actions) and any(reports[s.pattern].without_ttl for s in fresh))


def _enforced_there(known: Sequence[KeySpaceStatus], server: RedisInfo) -> set[str]:
    """The patterns that were agreed to for this Redis. Consent does not follow a name to another one."""
    return {k.key_pattern for k in known if k.enforced and server.is_at(k.enforced_on)}


def _enforced(desired: CollectionDesired, status: list[KeySpaceStatus], server: RedisInfo) -> CacheJudgement:
    wanted = {s.pattern for s in desired.cache if s.enforce}
    agreed = [
        k.model_copy(
            update={"enforced": True, "enforced_on": server.place}
            if k.key_pattern in wanted
            else {"enforced": None, "enforced_on": None}
        )
        for k in status
    ]
    spaces = effective(desired.cache, agreed, server)
    changed = spaces != effective(desired.cache, status, server)
    actions = (EnforceKeySpaces(spaces, server.place),) if changed else ()
    return CacheJudgement(agreed, actions=actions, message=_strays(agreed))


def _refusal(
    desired: CollectionDesired, fresh: Sequence[KeySpace], reports: Mapping[str, KeySpaceReport]
) -> LucidError | None:
    """The first Enforce makes keys expire that would have lived on: counted, and refused without consent."""
    for space in fresh:
        strays = reports[space.pattern].without_ttl
        if not strays:
            continue
        loss = f"let {strays} keys of {space.pattern} expire in {space.ttl_seconds} s that have no TTL now"
        refusal = consent.demand(desired.allow_data_loss, space.pattern, loss)
        if refusal is not None:
            return refusal
    return None


def _unwritable(desired: CollectionDesired, reports: Mapping[str, KeySpaceReport]) -> LucidError | None:
    """Why Redis did not let TTLs be set in the last scan."""
    return next((r.refused for s in desired.cache if (r := reports[s.pattern]).refused is not None), None)


def _moved(known: KeySpaceStatus, report: KeySpaceReport, now: datetime) -> KeySpaceStatus:
    fresh = {
        "keys": report.keys,
        "sampled_bytes": report.sampled_bytes,
        "strays": report.without_ttl - report.corrected,
        "over_ttl": report.over_ttl,
    }
    due = figures.due(known.scanned_at, now)
    if not due or not any(figures.moved(getattr(known, name), value) for name, value in fresh.items()):
        return known
    update = {**fresh, "corrected": report.corrected, "scanned_at": now.replace(microsecond=0)}
    return known.model_copy(update=update)


def _strays(status: Sequence[KeySpaceStatus]) -> str:
    found = [f"{k.strays} keys of {k.key_pattern}" for k in status if k.strays and not k.enforced]
    return f"{', '.join(found)} have no TTL" if found else ""
