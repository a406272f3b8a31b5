"""Rule 2.10: the marker in the destination. Another server is disaster recovery; the same one needs a person."""

from pathlib import Path
from typing import Any

import pytest

from lucid_storage.archive.folder import FolderStore
from lucid_storage.errors import Reason, RefusedError
from lucid_storage.jobs.restore_marker import leave, redis_identity, refuse_done
from lucid_storage.models.orders import Destination, Owner, RestoreOrder

HERE = {"mongodb": "set-1"}


def order(run: str = "run-2", run_again: str = "", **of: Any) -> RestoreOrder:
    owner = {"cluster": "c", "namespace": "n", "name": "back", "uid": "u", "spec_hash": "h", **of}
    return RestoreOrder(
        run=run,
        owner=Owner(**owner),
        destination=Destination(root="r"),
        chain="manual",
        deadline_seconds=60,
        backup_id="b",
        run_again=run_again,
    )


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    (tmp_path / "destination").mkdir()
    store = FolderStore(tmp_path / "destination")
    leave(store, order("run-1"), {**HERE, "redis": "r-1"})
    return store


@pytest.mark.parametrize("more", [{}, {"cluster": "rebuilt", "uid": "another"}], ids=["again", "rebuilt"])
def test_the_same_restore_into_the_same_server_needs_a_person(
    store: FolderStore, more: dict[str, str]
) -> None:
    with pytest.raises(RefusedError) as error:
        refuse_done(store, order(**more), HERE)
    assert error.value.reason is Reason.RUN_AGAIN_NEEDED
    assert "run-again" in error.value.message


@pytest.mark.parametrize(
    ("more", "servers"),
    [
        ({}, {"mongodb": "set-2"}),
        ({"spec_hash": "other"}, HERE),
        ({"name": "other"}, HERE),
        ({"namespace": "other"}, HERE),
        ({"run_again": "2"}, HERE),
        ({"run": "run-1"}, HERE),
    ],
    ids=["another server", "spec", "name", "namespace", "asked for", "its own worker again"],
)
def test_everything_else_runs(store: FolderStore, more: dict[str, str], servers: dict[str, str]) -> None:
    refuse_done(store, order(**more), servers)


def test_the_annotation_of_the_run_before_is_gone_and_nobody_asks_for_another(store: FolderStore) -> None:
    leave(store, order("run-2", run_again="2"), HERE)
    for run_again in ("", "2"):
        with pytest.raises(RefusedError):
            refuse_done(store, order("run-3", run_again=run_again), HERE)
    refuse_done(store, order("run-3", run_again="3"), HERE)


def test_one_store_of_several_that_is_the_same_is_enough(store: FolderStore) -> None:
    with pytest.raises(RefusedError, match="redis"):
        refuse_done(store, order(), {"mongodb": "set-2", "redis": "r-1"})


def test_a_damaged_marker_stops_nothing(store: FolderStore, tmp_path: Path) -> None:
    (tmp_path / "destination/r/restores/n/back.json").write_text("{")
    refuse_done(store, order(), HERE)


def test_a_destination_that_cannot_be_written_to_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("in the way")
    leave(FolderStore(tmp_path), order(), HERE)
    assert (tmp_path / "r").read_text() == "in the way"


def test_a_redis_is_known_by_its_address_without_login_and_without_showing_it() -> None:
    mine = redis_identity("redis://user:secret@cache:6379/0")
    assert mine == redis_identity("redis://cache/0")
    assert mine != redis_identity("redis://other/0")
    assert "cache" not in mine
