"""A removal that was broken off, or whose answer was lost, is finished by the next worker, which says what is gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chain_builder import full
from test_prune_worker import DAY, FOLDER, NOW, Bucket, ago, nightly

from lucid_storage.archive import holds
from lucid_storage.archive.folder import FolderStore
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.worker import Stop

ONLY: dict[str, Any] = {"sweep": False, "rules": {}, "remove": ("f3",), "known": ("f3",)}
"""The deletion of the one backup of the chain."""


class Killed(BaseException):
    """The worker ends here, as by the kernel: nothing of it runs any more."""


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path)


@pytest.fixture
def alone(bucket: Bucket) -> Bucket:
    """Its check failed, so no rule keeps it."""
    bucket.add(full("f3", 97 * DAY, completed_at=ago(3), schedule=None, retention_days=30, passed=False))
    return bucket


def at_deletion(monkeypatch: pytest.MonkeyPatch, end: str, act: Callable[[], None]) -> None:
    """`act()` is called before an object of this name is removed, and may end the worker."""
    real = FolderStore.delete

    def delete(store: FolderStore, path: str) -> None:
        if path.endswith(end):
            act()
        real(store, path)

    monkeypatch.setattr(FolderStore, "delete", delete)


def kill() -> None:
    raise Killed


def stopping(stop: Stop, reason: Reason = Reason.CANCELLED) -> Callable[[], None]:
    def ask() -> None:
        stop.reason, stop.message = reason, "The worker was told to stop."
        stop.event.set()

    return ask


def stopped_amid_f2(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, marked: str) -> Stop:
    """Of three nights, one of which was deleted before; the worker is told to stop while f2 goes."""
    bucket.add(*(nightly(d) for d in (1, 2, 3)))
    bucket.store.put(f"{FOLDER.backups}/{marked}/deleted.json", b"{}")
    stop = Stop()
    at_deletion(monkeypatch, "/f2/mongodb.archive", stopping(stop))
    return stop


@pytest.mark.parametrize("reason", [Reason.CANCELLED, Reason.DEADLINE_EXCEEDED])
def test_a_deletion_that_did_succeed_is_not_failed_by_a_stop(
    alone: Bucket, monkeypatch: pytest.MonkeyPatch, reason: Reason
) -> None:
    stop = Stop()
    at_deletion(monkeypatch, "mongodb.archive", stopping(stop, reason))
    result = alone.prune(stop=stop, **ONLY)
    assert (result.ok, result.removed, result.missing) == (True, ("f3",), ())


def test_a_deletion_whose_own_data_are_gone_when_it_is_stopped_did_succeed(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others of the chain go another time."""
    stop = stopped_amid_f2(bucket, monkeypatch, marked="f3")
    result = bucket.prune(stop=stop, sweep=False, rules={}, remove=("f2",), known=("f2", "f1"))
    assert (result.ok, result.removed, result.more) == (True, ("f2",), True)
    assert bucket.there() == {"f1", "f3"}


def test_a_deletion_that_is_stopped_before_its_own_data_went_waits(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = stopped_amid_f2(bucket, monkeypatch, marked="f2")
    with pytest.raises(LucidError, match="Not everything was removed") as told:
        bucket.prune(stop=stop, sweep=False, rules={}, remove=("f3",), known=("f3", "f1"))
    assert told.value.reason is Reason.CANCELLED
    assert bucket.there() == {"f1", "f3"}


@pytest.mark.parametrize("others", [False, True])
def test_what_a_killed_worker_left_without_its_manifest_goes_with_the_next(
    alone: Bucket, monkeypatch: pytest.MonkeyPatch, others: bool
) -> None:
    if others:
        alone.add(nightly(1))
    with monkeypatch.context() as patched:
        at_deletion(patched, "mongodb.archive", kill)
        with pytest.raises(Killed):
            alone.prune(**ONLY)
    assert any("/f3/" in path for path in alone.files())
    result = alone.prune(**ONLY)
    assert (result.ok, result.removed, result.missing) == (True, ("f3",), ())
    assert not any("/f3/" in path for path in alone.files())


def test_a_deletion_whose_answer_was_lost_is_answered_again(alone: Bucket) -> None:
    """However late the next worker comes."""
    for result in (alone.prune(**ONLY), alone.prune(**ONLY), alone.prune(**ONLY)):
        assert (result.ok, result.removed, result.missing) == (True, ("f3",), ())
    assert not any("/f3/" in path for path in alone.files())


def test_a_sweep_that_removed_the_only_backup_is_answered_again(alone: Bucket) -> None:
    sweep: dict[str, Any] = {"rules": {"nightly": {"days": 1}}, "known": ("f3",)}
    alone.store.put(f"{FOLDER.backups}/f3/deleted.json", b"{}")
    holds.announce_removal(alone.store, FOLDER, "sweep", {"f3"}, ago(1), ago(2))
    alone.store.delete(FOLDER.manifest("f3"))
    assert alone.prune(**sweep).removed == ("f3",)


def test_the_claim_of_an_emptied_chain_goes_when_it_is_used_again(alone: Bucket) -> None:
    alone.prune(**ONLY)
    claim = f"{holds.removals_folder(FOLDER)}/run1.json"
    assert alone.files() == {claim}
    alone.add(nightly(1))
    holds.announce_removal(alone.store, FOLDER, "run1", {"f3"}, ago(1), NOW)
    alone.prune(known=("f1",))
    assert claim not in alone.files()


def test_another_place_is_not_believed_to_be_emptied(alone: Bucket) -> None:
    """A claim and a folder of another backup say nothing of this one."""
    alone.prune(**ONLY)
    alone.store.put(f"{FOLDER.backups}/f9/mongodb.archive", b"data")
    with pytest.raises(LucidError) as told:
        alone.prune(**ONLY | {"remove": ("f2",), "known": ("f2",)})
    assert told.value.reason is Reason.DESTINATION_UNAVAILABLE
