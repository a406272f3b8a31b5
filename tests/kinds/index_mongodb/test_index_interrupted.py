"""Builds that a new generation, an error or the operator's end cut off: nothing of ours is left without a record."""

from typing import Any

import pytest
from index_builder import NAME, NOW, desired, fresh, index, observed, scope, status

from lucid_storage.errors import DuplicateKeysError, LucidError, Reason, StoreUnavailableError
from lucid_storage.kinds.contract import Plan
from lucid_storage.kinds.index_mongodb.actions import BuildIndex, CountExpired, DropIndex
from lucid_storage.kinds.index_mongodb.builds import IndexBuilds
from lucid_storage.kinds.index_mongodb.kind import MongoIndexKind
from lucid_storage.kinds.index_mongodb.plan import plan
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.index import IndexStatus, PendingIndex, SupersededIndex

TARGET = "app.users"
OLD = index()
PENDING = PendingIndex(index_name=f"{NAME}_g2", generation=2)


def steps(made: Plan[IndexStatus]) -> list[tuple[str, str]]:
    return [(type(a).__name__, a.name) for a in made.actions if isinstance(a, BuildIndex | DropIndex)]


def test_the_first_build_is_on_record_while_it_runs() -> None:
    made = plan(desired(), observed(), fresh(), scope())
    assert made.status.pending == PendingIndex(index_name=NAME, generation=1)
    assert not made.journal, "a quick build must cost no write of its own"
    ready = plan(desired(), observed(index()), made.status, scope())
    assert (ready.status.index_name, ready.status.pending) == (NAME, None)


def test_a_first_build_that_a_new_generation_overtook_gives_way_to_it() -> None:
    known = fresh().model_copy(
        update={"pending": PendingIndex(index_name=NAME, generation=1), "observed_generation": 2}
    )
    made = plan(desired(sparse=True), observed(index()), known, scope())
    assert steps(made) == [("DropIndex", NAME), ("BuildIndex", NAME)]


def test_an_index_that_stands_in_the_way_of_the_generation_that_was_recorded_is_not_dropped() -> None:
    known = fresh().model_copy(update={"pending": PendingIndex(index_name=NAME, generation=1)})
    made = plan(desired(sparse=True), observed(index()), known, scope())
    assert not made.actions
    assert made.verdict is not None
    assert made.verdict.reason is Reason.INDEX_CONFLICT


def test_a_superseded_successor_stays_on_record_until_it_is_gone() -> None:
    halfway = index(f"{NAME}_g2", sparse=True, building=True)
    known = status(observed_generation=3, pending=PENDING)
    made = plan(desired(collation={"locale": "de"}), observed(OLD, halfway), known, scope())
    assert made.journal
    assert made.status.superseded == [SupersededIndex(index_name=f"{NAME}_g2")]
    again = plan(desired(collation={"locale": "de"}), observed(OLD), made.status, scope())
    assert again.status.superseded is None


def test_a_superseded_successor_that_another_resource_declares_is_left_to_it() -> None:
    halfway = index(f"{NAME}_g2", sparse=True)
    known = status(observed_generation=3, pending=PENDING)
    seen = observed(OLD, halfway, claimed=(("other", halfway.definition),))
    made = plan(desired(collation={"locale": "de"}), seen, known, scope())
    assert steps(made) == [("BuildIndex", f"{NAME}_g3")]


def test_many_replacements_in_a_short_time_keep_status_and_collection_bounded() -> None:
    locales = ["de", "fr", "es", "it", "pt", "nl", "sv", "da", "fi", "pl", "cs", "hu", "ro", "tr", "hr", "sk"]
    old = [index(f"{NAME}_g{n}", collation={"locale": at}, hidden=True) for n, at in enumerate(locales)]
    known = status(index_name=NAME, superseded=[SupersededIndex(index_name=ix.name) for ix in old[:14]])
    known = known.model_copy(update={"index_name": old[14].name})
    made = plan(desired(), observed(OLD, *old[:15]), known, scope())
    assert [a.name for a in made.actions if isinstance(a, DropIndex)] == [ix.name for ix in old[:3]]
    assert len(made.status.superseded or ()) <= 16


@pytest.mark.parametrize(
    ("error", "recorded"), [(DuplicateKeysError("twice"), False), (StoreUnavailableError("lost"), True)]
)
async def test_only_a_refusal_proves_that_nothing_was_begun(error: LucidError, recorded: bool) -> None:
    async def call() -> None:
        raise error

    builds = IndexBuilds(lambda _: None)
    key = Key("indexes", "ns", "users-email")
    unused: Any = None
    kind = MongoIndexKind(_Connected(call), builds, unused)  # type: ignore[arg-type]
    known = fresh().model_copy(update={"pending": PendingIndex(index_name=NAME, generation=1)})
    with pytest.raises(type(error)):
        await kind.apply(_resource(key), desired(), known, BuildIndex(TARGET, NAME, OLD.definition))
    assert (known.pending is not None) is recorded


TTL = index(expire_after_seconds=60)
WITHOUT_TTL = {"replacePolicy": "DropFirst"}


def test_what_is_built_after_a_drop_is_on_record_before_the_drop() -> None:
    made = plan(desired(WITHOUT_TTL), observed(TTL), status(), scope())
    assert steps(made) == [("DropIndex", NAME), ("BuildIndex", NAME)]
    assert made.journal
    assert made.status.pending == PendingIndex(index_name=NAME, generation=2)
    assert made.verdict is not None
    assert made.verdict.reason is Reason.REPLACING


@pytest.mark.parametrize("policy", ["Correct", "Report", "Ignore"])
def test_an_index_that_was_dropped_and_not_built_is_built_whatever_is_done_about_drift(policy: str) -> None:
    known = plan(desired(WITHOUT_TTL), observed(TTL), status(), scope()).status
    made = plan(desired({**WITHOUT_TTL, "driftPolicy": policy}), observed(), known, scope())
    assert steps(made) == [("BuildIndex", NAME)]


HIDDEN = index(hidden=True)
"""Replaced by the second generation, and kept for a while under the declared name."""
SECOND = index(f"{NAME}_g2", expire_after_seconds=60, partial_filter={"active": True})
THEN = status(
    index_name=SECOND.name,
    observed_generation=3,
    superseded=[SupersededIndex(index_name=NAME, hidden_at=NOW)],
)
PARTIAL = {"partialFilterExpression": {"active": True}}


def test_a_drop_first_keeps_the_name_that_it_has_while_the_declared_one_is_taken() -> None:
    made = plan(desired(WITHOUT_TTL, **PARTIAL), observed(HIDDEN, SECOND), THEN, scope())
    assert steps(made) == [("DropIndex", SECOND.name), ("BuildIndex", SECOND.name)]
    killed = plan(desired(WITHOUT_TTL, **PARTIAL), observed(HIDDEN), made.status, scope())
    assert steps(killed) == [("BuildIndex", SECOND.name)]


@pytest.mark.parametrize("beside", [{}, PARTIAL], ids=["which drops first", "which builds first"])
def test_what_was_begun_for_another_generation_stays_on_record_for_the_next_one(
    beside: dict[str, Any],
) -> None:
    """Killed between the record and the drops: the third generation must not forget what the second built."""
    begun = index(f"{NAME}_g2", sparse=True)
    known = status(observed_generation=3, pending=PENDING)
    made = plan(desired(WITHOUT_TTL, **beside), observed(TTL, begun), known, scope())
    assert (("DropIndex", NAME) in steps(made)) is (not beside)
    assert ("DropIndex", begun.name) in steps(made)
    assert begun.name in {entry.index_name for entry in made.status.superseded or ()}


def test_an_index_that_somebody_dropped_comes_back_also_while_its_predecessor_has_the_declared_name() -> None:
    known = THEN.model_copy(update={"pending": None})
    asked = desired(expireAfterSeconds=60, **PARTIAL)
    seen = observed(HIDDEN, answers={CountExpired("email", 60): 0})
    made = plan(asked, seen, known, scope(settled=True))
    assert steps(made) == [("BuildIndex", SECOND.name)]
    assert [entry.field for entry in made.drift] == ["index"]


@pytest.mark.parametrize("serving", [True, False])
def test_a_hidden_index_that_the_server_refuses_beside_the_new_one_goes_before_it(serving: bool) -> None:
    asked = desired(expireAfterSeconds=60)
    here = (HIDDEN, SECOND) if serving else (HIDDEN,)
    made = plan(asked, observed(*here, answers={CountExpired("email", 60): 0}), THEN, scope())
    built = f"{NAME}_g3" if serving else SECOND.name
    assert steps(made) == [("DropIndex", NAME), ("BuildIndex", built)]


def test_a_hidden_index_that_another_resource_declares_is_left_to_it() -> None:
    claimed = (("other", HIDDEN.definition),)
    seen = observed(HIDDEN, SECOND, claimed=claimed, answers={CountExpired("email", 60): 0})
    made = plan(desired(expireAfterSeconds=60), seen, THEN, scope())
    assert steps(made) == [("BuildIndex", f"{NAME}_g3")], "the server then says what stands in the way"


class _Connected:
    """A deployment whose only answer is the given one."""

    def __init__(self, call: Any) -> None:
        self.port = self
        self.create_index = lambda *_: call()

    async def mongodb(self, namespace: str, secret: str | None) -> "_Connected":
        return self


def _resource(key: Key) -> Resource:
    meta = {"name": key.name, "namespace": key.namespace, "uid": "u", "generation": 1}
    return Resource.from_body(key.plural, {"metadata": meta})
