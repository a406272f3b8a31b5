"""Two restores of one index at once: no lease keeps them apart, so the later one goes on, and the other one says so."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest

from jobs.elastic.elastic_bed import Backup, Bed
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs import elastic_loading, elastic_restore
from lucid_storage.jobs.elastic_restore import restore
from lucid_storage.stores.elasticsearch.backup import leftovers
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp
from lucid_storage.stores.elasticsearch.backup.names import run_part

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


def run_of(bed: Bed, which: str) -> str:
    """Another one in each test: what a run of the same id left is taken for one's own, and removed."""
    return run_part(which + bed.prefix)


def whole(bed: Bed, index: str, run: str) -> None:
    """The index is the one that `run` made, with the mappings of the backup, and nothing lies beside it."""
    (found,) = bed.call("GET", f"/{index}").values()
    assert found["mappings"]["properties"]["code"] == {"type": "keyword"}
    assert found["mappings"]["dynamic"] == "strict"
    assert bed.count(index) == DOCUMENTS
    assert bed.indices() == {f"{index}-r-{run}"}


def shields(bed: Bed) -> list[str]:
    found = bed.call("GET", "/_index_template")["index_templates"]
    ours = {f"lucid-restore-{run_of(bed, which)}" for which in ("first", "second")}
    return [t["name"] for t in found if t["name"] in ours]


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
        assert (
            restore(bed.restore_run(backup, drop_existing=True, run=run_of(bed, "second"))).documents
            == DOCUMENTS
        )

    module, step, after = MOMENTS[moment]
    interrupted(monkeypatch, module, step, second, after=after)
    first = bed.restore_run(backup, drop_existing=True, run=run_of(bed, "first"))
    if moment == "before it makes its index":
        assert restore(first).documents == DOCUMENTS  # one after the other
        whole(bed, index, run_of(bed, "first"))
    else:
        with pytest.raises(LucidError):
            restore(first)
        whole(bed, index, run_of(bed, "second"))
    assert shields(bed) == []


def attempt(bed: Bed, backup: Backup) -> LucidError:
    with pytest.raises(LucidError) as failed:
        restore(bed.restore_run(backup, drop_existing=True, run=run_of(bed, "first")))
    return failed.value


async def test_documents_make_no_index_that_was_removed_and_the_message_says_who_is_at_work(
    bed: Bed, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = bed.back_up()

    def remove() -> None:
        bed.call("DELETE", f"/{index}-r-{run_of(bed, 'first')}")

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
        bed.call("DELETE", f"/{index}-r-{run_of(bed, 'first')}")
        bed.call("DELETE", f"/_index_template/lucid-restore-{run_of(bed, 'first')}")
        for n in range(DOCUMENTS):
            bed.put(f"{index}-r-{run_of(bed, 'first')}", str(n), f'{{"code":"00{n}"}}')

    interrupted(monkeypatch, elastic_loading, "loaded", replace, after=True)
    failed = attempt(bed, backup)
    assert failed.reason is Reason.WORKER_LOST
    (found,) = bed.call("GET", f"/{index}").values()
    assert found["mappings"]["dynamic"] == "strict"
    assert bed.count(index) == DOCUMENTS


async def test_an_index_that_goes_live_while_another_run_clears_is_not_removed(
    bed: Bed, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one switches after the second one has seen that it had not; then the second one fails."""
    backup = bed.back_up()
    ready, go = threading.Event(), threading.Event()
    switch, seen = elastic_restore.switch, leftovers.leftovers

    def waits(*given: Any, **named: Any) -> list[str]:
        ready.set()
        assert go.wait(60)
        return switch(*given, **named)

    with ThreadPoolExecutor(1) as other:
        with monkeypatch.context() as patched:
            patched.setattr(elastic_restore, "switch", waits)
            first = other.submit(
                restore, bed.restore_run(backup, drop_existing=True, run=run_of(bed, "first"))
            )
            assert ready.wait(60)

        def looks(http: ElasticHttp) -> list[leftovers.Leftover]:
            found = seen(http)
            if not go.is_set():
                go.set()
                wait([first])
            return found

        monkeypatch.setattr(leftovers, "leftovers", looks)
        second = bed.restore_run(backup, drop_existing=True, run=run_of(bed, "second"))
        second.open_source = failing
        with pytest.raises(LucidError, match="gone"):
            restore(second)
        assert first.result().documents == DOCUMENTS
    whole(bed, index, run_of(bed, "first"))


def failing() -> Any:
    raise LucidError("the source is gone")


async def test_an_index_that_another_run_is_about_to_remove_does_not_go_live(
    bed: Bed, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = bed.back_up()
    bed.put(index, "later", '{"code":"later"}')

    def clears() -> None:
        def dies(*_: Any) -> None:
            raise LucidError("killed before it could delete")

        with monkeypatch.context() as patched, pytest.raises(LucidError, match="killed"):
            patched.setattr(leftovers, "remove", dies)
            restore(bed.restore_run(backup, drop_existing=True, run=run_of(bed, "second")))

    interrupted(monkeypatch, elastic_restore, "switch", clears, after=False)
    assert attempt(bed, backup).reason is Reason.WORKER_LOST
    assert bed.count(index) == DOCUMENTS + 1
    assert bed.indices() == {index}
