"""Histories of chains for property tests, and what retention makes of them."""

from __future__ import annotations

from typing import Any

from chain_builder import CLUSTER, START, differential, found_damaged, full, incremental, moment, piece
from hypothesis import strategies as st

from lucid_storage.archive.manifest import RetentionRules
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.retention import Outcome, Question, judge
from lucid_storage.archive.retention_rules import RuleBook

DAY = 86_400


def question(now_day: float, rules: RetentionRules | None = None, **more: Any) -> Question:
    schedules = {"nightly": rules} if rules is not None else {}
    return Question(
        now=moment(now_day * DAY),
        own_clusters=frozenset({CLUSTER}),
        rules=RuleBook(schedules=schedules),
        **more,
    )


def after(records: list[Recorded], asked: Question) -> list[Recorded]:
    return [v.record for v in judge(records, asked) if v.outcome is Outcome.KEEP]


KINDS = st.sampled_from(["full", "full", "bad", "unproved", "incremental", "differential", "gap"])
RULES = st.builds(
    RetentionRules,
    days=st.none() | st.integers(1, 40),
    keep_last=st.none() | st.integers(1, 5),
    keep_daily=st.none() | st.integers(1, 5),
    keep_weekly=st.none() | st.integers(1, 5),
    keep_monthly=st.none() | st.integers(1, 5),
)


@st.composite
def chains(draw: st.DrawFn) -> list[Recorded]:
    """A history of some weeks: slices all the time, backups now and then, gaps, failures, a second timeline, and a few
    that were good when others built on them, and that a check finds damaged now.
    """
    records: list[Recorded] = []
    at, timeline, base = 0, 0, None
    for n, kind in enumerate(draw(st.lists(KINDS, max_size=25))):
        to = at + draw(st.integers(DAY // 4, 3 * DAY))
        by = draw(st.sampled_from(["nightly", "nightly", None]))
        common: dict[str, Any] = {"timeline": f"t{timeline}", "schedule": by}
        if kind == "gap":
            at, timeline, base = to, timeline + 1, None
            continue
        cuts = [at + (to - at) * n // 3 for n in range(3)] if draw(st.booleans()) else [at]
        records += [piece(a, b, timeline=f"t{timeline}") for a, b in zip(cuts, [*cuts[1:], to], strict=True)]
        if kind in ("full", "bad", "unproved"):
            proof = {"full": True, "bad": False, "unproved": None}[kind]
            records.append(full(f"b{n}", draw(st.integers(at + 1, to)), passed=proof, **common))
            base = records[-1].manifest if kind == "full" else base
        elif base is not None and kind == "incremental":
            records.append(incremental(f"b{n}", to, base.id, **common))
        elif base is not None:
            start = base.mongodb.to.optime.seconds - int(START.timestamp()) if base.mongodb else 0
            records.append(differential(f"b{n}", start, to, base.id, **common))
        at = to
    damaged = draw(st.sets(st.integers(0, len(records) - 1), max_size=3)) if records else set()
    return [found_damaged(r) if n in damaged else r for n, r in enumerate(records)]
