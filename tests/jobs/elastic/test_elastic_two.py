"""Two restores of one index at once: no lease keeps them apart, so the later one goes on, and the other one says so."""

from collections.abc import Callable
from typing import Any

import pytest

from jobs.elastic.elastic_bed import Backup, Bed
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs import elastic_loading, elastic_restore
from lucid_storage.jobs.elastic_restore import restore

pytestmark = pytest.mark.elasticsearch

STRICT = {
    "settings": {"number_of_replicas": 0},
    "mappings": {"dynamic": "strict", "properties": {"code": {"type": "keyword"}}},
}
DOCUMENTS = 5


@pytest.fixture
def index(bed: Bed) -> str:
    made = bed.index("codes", STRICT)
    for n in range(DOCUMENTS):
        bed.put(made, str(n), f'{{"code":"00{n}"}}')
    return made


def whole(bed: Bed, index: str, run: str) -> None:
    """The index is the one that `run` made, with the mappings of the backup, and nothing lies beside it."""
    (found,) = bed.call("GET", f"/{index}").values()
    assert found["mappings"]["properties"]["code"] == {"type": "keyword"}
    assert found["mappings"]["dynamic"] == "strict"
    assert bed.count(index) == DOCUMENTS
    assert bed.indices() == {f"{index}-r-{run}"}


def shields(bed: Bed) -> list[str]:
    found = bed.call("GET", "/_index_template")["index_templates"]
    return [t["name"] for t in found if t["name"].startswith(("lucid-restore-first", "lucid-restore-second"))]


def interrupted(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, between: Callable[[], object], *, after: bool
) -> None:
    """The first call of a step has somebody come between, before it or after it."""
    real, seen = getattr(module, name), []

    def step(*given: Any, **named: Any) -> Any:
        first = not seen
        seen.append(name)
        if first and not after:
            between()
        result = real(*given, **named)
        if first and after:
            between()
        return result

    monkeypatch.setattr(module, name, step)


MOMENTS = {
    "before it makes its index": (elastic_loading, "stage", False),
    "before its first document": (elastic_loading, "stage", True),
    "before it has loaded all": (elastic_loading, "loaded", False),
    "before it counts": (elastic_loading, "count", False),
    "before the switch": (elastic_restore, "switch", False),
}


@pytest.mark.parametrize("moment", MOMENTS)
async def test_whenever_a_second_restore_comes_what_is_live_is_whole_and_nobody_claims_more(
    bed: Bed, index: str, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    backup = bed.back_up()

    def second() -> None:
        assert restore(bed.restore_run(backup, drop_existing=True, run="second")).documents == DOCUMENTS

    module, step, after = MOMENTS[moment]
    interrupted(monkeypatch, module, step, second, after=after)
    first = bed.restore_run(backup, drop_existing=True, run="first")
    if moment == "before it makes its index":
        assert restore(first).documents == DOCUMENTS  # one after the other
        whole(bed, index, "first")
    else:
        with pytest.raises(LucidError):
            restore(first)
        whole(bed, index, "second")
    assert shields(bed) == []


def attempt(bed: Bed, backup: Backup) -> LucidError:
    with pytest.raises(LucidError) as failed:
        restore(bed.restore_run(backup, drop_existing=True, run="first"))
    return failed.value


async def test_documents_make_no_index_that_was_removed_and_the_message_says_who_is_at_work(
    bed: Bed, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = bed.back_up()

    def remove() -> None:
        bed.call("DELETE", f"/{index}-r-first")

    interrupted(monkeypatch, elastic_loading, "stage", remove, after=True)
    failed = attempt(bed, backup)
    assert failed.reason is Reason.WORKER_LOST
    assert "another restore of the same index" in failed.message
    assert bed.indices() == {index}


async def test_an_index_that_somebody_made_anew_under_the_name_is_not_taken_for_the_loaded_one(
    bed: Bed, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the right number of documents, and mappings that the server guessed."""
    backup = bed.back_up()

    def replace() -> None:
        bed.call("DELETE", f"/{index}-r-first")
        bed.call("DELETE", "/_index_template/lucid-restore-first")
        for n in range(DOCUMENTS):
            bed.put(f"{index}-r-first", str(n), f'{{"code":"00{n}"}}')

    interrupted(monkeypatch, elastic_loading, "loaded", replace, after=True)
    failed = attempt(bed, backup)
    assert failed.reason is Reason.WORKER_LOST
    (found,) = bed.call("GET", f"/{index}").values()
    assert found["mappings"]["dynamic"] == "strict"
    assert bed.count(index) == DOCUMENTS
