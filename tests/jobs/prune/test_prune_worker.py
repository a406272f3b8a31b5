"""The prune worker on a real folder: what goes, what stays, what it says (rule 1.8, 1.9)."""

from __future__ import annotations

import io
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from chain_builder import CLUSTER, full, incremental, piece

from lucid_storage.archive import holds
from lucid_storage.archive.folder import PARTIAL, FolderStore
from lucid_storage.archive.keys import Keyring
from lucid_storage.archive.layout import MARK, ChainFolder
from lucid_storage.archive.manifest import BackupKind, ObjectKind, RetentionRules, StoredObject
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.records import list_backups, list_slices, write_manifest, write_proof
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.prune import prune
from lucid_storage.jobs.prune_removing import Removal, remove
from lucid_storage.jobs.reporting import TERMINATION_BYTES, Reporter, packed
from lucid_storage.jobs.worker import Stop
from lucid_storage.models.orders import DESTINATION_FOLDER_VARIABLE, Destination, Owner
from lucid_storage.models.pruning import PruneOrder, PruneResult

DAY = 86_400
NOW = datetime.now(UTC)
FOLDER = ChainFolder("root", CLUSTER, "ns", "main")


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


class Bucket:
    """One chain in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = FolderStore(path)
        self.environ = {DESTINATION_FOLDER_VARIABLE: str(path)}

    def add(self, *records: Recorded) -> None:
        for record in records:
            whole = record.kind is BackupKind.FULL
            kind = ObjectKind.MONGODB_ARCHIVE if whole else ObjectKind.MONGODB_OPLOG
            data = StoredObject(
                kind=kind, path=self.data(record), stored_bytes=4, sha256="0" * 64, plain_bytes=4
            )
            manifest = record.manifest.model_copy(update={"objects": (data,)})
            write_manifest(self.store, FOLDER, manifest, None)
            if record.proof is not None:
                write_proof(self.store, FOLDER, record.proof, None)
            self.store.put(self.data(record), b"data")

    def data(self, record: Recorded) -> str:
        manifest = record.manifest
        if record.kind is BackupKind.SLICE:
            assert manifest.prev is not None
            return FOLDER.slice_data(manifest.timeline, manifest.prev.optime, manifest.id)
        return FOLDER.object(record.id, ObjectKind.MONGODB_ARCHIVE)

    def there(self) -> set[str]:
        keyring = Keyring(None)
        found = (
            *list_backups(self.store, FOLDER, keyring).records,
            *list_slices(self.store, FOLDER, keyring).records,
        )
        return {r.id for r in found}

    def files(self) -> set[str]:
        return {entry.path for entry in self.store.list(FOLDER.path)}

    def prune(self, *, stop: Stop | None = None, **more: Any) -> PruneResult:
        order = PruneOrder(
            run="run1",
            owner=Owner(cluster=CLUSTER, namespace="ns", name="nightly", uid="u", spec_hash=""),
            destination=Destination(root="root"),
            chain="main",
            deadline_seconds=60,
            **{"sweep": True, "rules": {"nightly": {"days": 3}}, **more},
        )
        return prune(order, self.environ, Reporter(out=io.StringIO()), stop or Stop())


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path)


def nightly(days: int, **more: Any) -> Recorded:
    return full(f"f{days}", (100 - days) * DAY, completed_at=ago(days), **more)


def test_what_retention_lets_go_goes_whole_and_the_rest_stays(bucket: Bucket) -> None:
    bucket.add(*(nightly(d) for d in (1, 2, 4, 5)))
    result = bucket.prune(known=("f1", "f2", "f4", "f5"))
    assert bucket.there() == {"f1", "f2"}
    assert not any("/f4/" in path or "/f5/" in path for path in bucket.files())
    assert (result.ok, set(result.removed), result.more) == (True, {"f4", "f5"}, False)
    assert result.chain is not None
    assert result.chain.backups == 2


def test_slices_before_the_oldest_kept_full_go_with_their_data(bucket: Bucket) -> None:
    old = piece(95 * DAY, 96 * DAY, completed_at=ago(4))
    kept = piece(99 * DAY, 100 * DAY, completed_at=ago(0.1))
    bucket.add(nightly(5), old, nightly(1), kept)
    bucket.prune()
    assert bucket.there() == {"f1", kept.id}
    left = {path for path in bucket.files() if path.startswith(FOLDER.slices)}
    assert kept.manifest.prev is not None
    assert left == {
        bucket.data(kept),
        FOLDER.slice_manifest(kept.manifest.timeline, kept.manifest.prev.optime),
    }


def test_a_second_run_removes_nothing_more_and_says_the_same(bucket: Bucket) -> None:
    """The first one's words may be lost with its pod."""
    bucket.add(*(nightly(d) for d in (1, 5)))
    first, second = bucket.prune(known=("f1", "f5")), bucket.prune(known=("f1", "f5"))
    assert first.removed == second.removed == ("f5",)
    assert bucket.there() == {"f1"}


def test_a_base_that_is_needed_stays_and_says_why(bucket: Bucket) -> None:
    between = piece(95 * DAY, 98 * DAY, completed_at=ago(2))
    bucket.add(nightly(5), between, incremental("i2", 98 * DAY, "f5", completed_at=ago(2)), nightly(1))
    result = bucket.prune(known=("f5", "i2", "f1"))
    assert bucket.there() == {"f5", "i2", "f1", between.id}
    assert [(r.id, r.because) for r in result.retained] == [("f5", "The backup i2 builds on it.")]


def test_deleting_an_object_whose_data_are_needed_marks_them_for_later(bucket: Bucket) -> None:
    bucket.add(nightly(2), piece(98 * DAY, 99 * DAY, completed_at=ago(1)))
    needing = incremental("i1", 99 * DAY, "f2", completed_at=ago(1))
    bucket.add(needing)
    result = bucket.prune(sweep=False, remove=("f2",))
    assert [r.id for r in result.retained] == ["f2"]
    assert "f2" in bucket.there()
    bucket.add(nightly(0))
    for path in (FOLDER.manifest("i1"), FOLDER.proof("i1")):
        bucket.store.delete(path)
    bucket.prune()
    assert "f2" not in bucket.there(), "younger than 3 days, but its object was deleted"


def test_without_a_sweep_only_what_was_named_goes(bucket: Bucket) -> None:
    bucket.add(*(nightly(d) for d in (1, 5, 6)))
    assert bucket.prune(sweep=False, remove=("f5",)).removed == ("f5",)
    assert bucket.there() == {"f1", "f6"}


def test_the_last_good_one_is_not_removed_by_name_either(bucket: Bucket) -> None:
    bucket.add(nightly(1))
    result = bucket.prune(sweep=False, remove=("f1",))
    assert bucket.there() == {"f1"}
    assert "last good" in result.retained[0].because


def test_what_is_read_is_left_until_the_reading_is_over(bucket: Bucket) -> None:
    bucket.add(*(nightly(d) for d in (1, 5)))
    assert not holds.hold(bucket.store, FOLDER, "restore1", ["f5"], NOW + timedelta(days=1), NOW)
    result = bucket.prune(known=("f1", "f5"))
    assert bucket.there() == {"f1", "f5"}
    assert result.retained[0].id == "f5"
    holds.release(bucket.store, FOLDER, "restore1")
    bucket.prune()
    assert bucket.there() == {"f1"}


def test_a_reader_that_comes_late_sees_what_is_going(bucket: Bucket) -> None:
    until = NOW + timedelta(minutes=5)
    assert not holds.announce_removal(bucket.store, FOLDER, "prune1", ["f5"], until, NOW)
    assert holds.hold(bucket.store, FOLDER, "restore1", ["f5", "f1"], until, NOW) == {"f5"}
    assert holds.announce_removal(bucket.store, FOLDER, "prune1", ["f5"], until, NOW) == {"f5"}
    assert not holds.held(bucket.store, FOLDER, until), "a reader that died holds nothing for ever"


def test_a_reader_in_the_folder_of_an_adopted_cluster_sees_what_is_going(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = "00000000-0000-4000-8000-00000000000f"
    bucket.add(*(nightly(d) for d in (1, 5)))
    seen: list[frozenset[str]] = []

    def reading(*given: Any) -> Removal:
        until = NOW + timedelta(minutes=5)
        seen.append(holds.hold(bucket.store, FOLDER.of(former), "restore1", ["f5"], until, NOW))
        holds.release(bucket.store, FOLDER.of(former), "restore1")
        return remove(*given) if given else Removal()

    monkeypatch.setattr("lucid_storage.jobs.prune.remove", reading)
    bucket.prune(adopted=(former,))
    reading()
    assert seen == [{"f5"}, frozenset()], "while it goes, and afterwards"


def test_uploads_without_a_manifest_go_after_a_day_and_not_before(bucket: Bucket) -> None:
    bucket.add(nightly(1))
    old, young = (FOLDER.object(n, ObjectKind.MONGODB_ARCHIVE) for n in ("old", "young"))
    slice_data = FOLDER.slice_data("t1", piece(1, 2).manifest.prev.optime)  # type: ignore[union-attr]
    for path in (old, young, slice_data):
        bucket.store.put(path, b"half")
    for path in (old, slice_data):
        os.utime(bucket.path / path, (ago(2).timestamp(),) * 2)
    bucket.prune()
    assert old not in bucket.files()
    assert slice_data not in bucket.files()
    assert young in bucket.files()


def test_a_worker_whose_clock_is_ahead_removes_nothing_that_is_young_by_the_operators(bucket: Bucket) -> None:
    """One of the two clocks is wrong, and nobody knows which: the days must be over by both."""
    bucket.add(*(nightly(d) for d in (10, 12, 14)))
    half = FOLDER.object("half", ObjectKind.MONGODB_ARCHIVE)
    bucket.store.put(half, b"half")
    os.utime(bucket.path / half, (ago(9.5).timestamp(),) * 2)
    known = ("f10", "f12", "f14")

    result = bucket.prune(known=known, ordered_at=ago(9.2))

    assert bucket.there() == {"f10", "f12"}, "f14 is older than three days by both clocks"
    assert half in bucket.files(), "a worker may be at it still"
    assert set(result.removed) == {"f14"}
    bucket.prune(known=known, ordered_at=NOW)
    assert bucket.there() == {"f10"}
    assert half not in bucket.files()


def test_a_worker_whose_clock_is_ahead_sees_who_reads_by_the_operators(bucket: Bucket) -> None:
    bucket.add(*(nightly(d) for d in (1, 5)))
    holds.hold(bucket.store, FOLDER, "restore1", ["f5"], ago(0.5), NOW)
    bucket.prune(ordered_at=ago(0.6))
    assert bucket.there() == {"f1", "f5"}


def test_what_goes_is_announced_for_long_enough_where_the_workers_clock_is_behind(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.add(*(nightly(d) for d in (1, 5)))
    later = NOW + timedelta(days=1)
    seen: list[frozenset[str]] = []

    def reading(*given: Any) -> Removal:
        seen.append(holds.hold(bucket.store, FOLDER, "restore1", ["f5"], later, later))
        return remove(*given)

    monkeypatch.setattr("lucid_storage.jobs.prune.remove", reading)
    bucket.prune(ordered_at=later)
    assert seen == [{"f5"}]


def test_old_data_of_a_slice_stay_as_long_as_a_manifest_names_them(bucket: Bucket) -> None:
    slices = [
        piece(98 * DAY, 99 * DAY, completed_at=ago(2)),
        piece(99 * DAY, 100 * DAY, completed_at=ago(1.5)),
    ]
    bucket.add(nightly(2), *slices)
    for one in slices:
        os.utime(bucket.path / bucket.data(one), (ago(2).timestamp(),) * 2)
    bucket.prune()
    assert {bucket.data(one) for one in slices} <= bucket.files()


def test_a_stopped_run_is_discarded_at_once_but_never_a_backup(bucket: Bucket) -> None:
    bucket.add(nightly(1), nightly(2))
    half = FOLDER.object("half", ObjectKind.MONGODB_ARCHIVE)
    bucket.store.put(half, b"half")
    bucket.store.writer(FOLDER.object("half", ObjectKind.REDIS_RDB)).write(b"half")
    (never_ended,) = (bucket.path / half).parent.glob(f"{PARTIAL}*")
    tomorrow = ago(-1).timestamp()
    os.utime(never_ended, (tomorrow, tomorrow))  # by the clock of the destination's server

    result = bucket.prune(sweep=False, discard=("half", "f2"))

    assert half not in bucket.files()
    assert not never_ended.exists()
    assert bucket.there() == {"f1", "f2"}
    assert result.removed == ("half",)


def test_a_damaged_manifest_stops_removal_and_nothing_is_called_gone(bucket: Bucket) -> None:
    bucket.add(*(nightly(d) for d in (1, 5)))
    bucket.store.put(FOLDER.manifest("odd"), b"{]")
    result = bucket.prune(known=("f1", "f5", "odd", "never"))
    assert bucket.there() == {"f1", "f5"}
    assert result.removed == ()
    assert result.chain is not None
    assert result.chain.unreadable == 1


def test_an_encrypted_chain_without_its_key_is_left_alone(bucket: Bucket, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "k1").write_bytes(b"k" * 32)
    keyring = Keyring(keys)
    key = keyring.key("k1")
    for days in (4, 5):
        record = nightly(days, key_id="k1", fingerprint=key.fingerprint)
        write_manifest(bucket.store, FOLDER, record.manifest, key)
        assert record.proof is not None
        write_proof(bucket.store, FOLDER, record.proof, key)
    assert bucket.prune(known=("f4", "f5")).removed == ()
    bucket.environ["LUCID_KEYS"] = str(keys)
    assert bucket.prune(known=("f4", "f5")).removed == ("f5",)


@pytest.mark.parametrize("other_bytes", [False, True])
def test_a_key_that_is_away_for_a_while_costs_no_slice(
    bucket: Bucket, tmp_path: Path, other_bytes: bool
) -> None:
    """k1 was rotated to k2 and taken out of the Secret; under its id there may be another key now."""
    keys = tmp_path / "keys"
    keys.mkdir()
    for name in ("k1", "k2"):
        (keys / name).write_bytes(name[1].encode() * 32)
    before = Keyring(keys)
    first, last = nightly(9), nightly(1)
    start = 91 * DAY
    slices = [piece(start + n * DAY, start + (n + 1) * DAY, completed_at=ago(8 - n)) for n in range(8)]
    for record, name in ((first, "k1"), *((s, "k2") for s in slices), (last, "k2")):
        key = before.key(name)
        packing = record.manifest.packing.model_copy(
            update={"encrypted": True, "key_id": name, "key_fingerprint": key.fingerprint}
        )
        manifest = record.manifest.model_copy(update={"packing": packing})
        write_manifest(bucket.store, FOLDER, manifest, key)
        if record.proof is not None:
            write_proof(bucket.store, FOLDER, record.proof, key)
    bucket.environ["LUCID_KEYS"] = str(keys)
    whole = bucket.prune(rules={"nightly": {"days": 30}}).chain
    assert whole is not None
    if other_bytes:
        (keys / "k1").write_bytes(b"x" * 32)
    else:
        (keys / "k1").unlink()
    away = bucket.prune(rules={"nightly": {"days": 30}}).chain
    assert away is not None
    assert away.recoverable == ()
    (keys / "k1").write_bytes(b"1" * 32)
    back = bucket.prune(rules={"nightly": {"days": 30}}).chain
    assert back is not None
    assert back.recoverable == whole.recoverable
    assert (back.recoverable[0].last - back.recoverable[0].first).days == 7


def test_the_answer_fits_a_termination_message_however_much_there_is(bucket: Bucket) -> None:
    ids = [f"{n:08d}-0000-4000-8000-000000000000" for n in range(60)]
    bucket.add(*(full(i, n * 60, completed_at=ago(20 - n / 60)) for n, i in enumerate(ids)), nightly(0))
    first = bucket.prune(known=tuple(ids))
    assert len(packed(first).encode()) <= TERMINATION_BYTES
    assert (first.more, len(first.removed)) == (True, 40)
    second = bucket.prune(known=tuple(i for i in ids if i not in first.removed))
    assert (second.more, len(second.removed)) == (False, 20)
    assert bucket.there() == {"f0"}


def by_hand(days: int, keep: int = 30, **more: Any) -> Recorded:
    return nightly(days, schedule=None, retention_days=keep, **more)


def test_a_place_where_nothing_lies_is_taken_for_another_one_and_no_backup_for_gone(bucket: Bucket) -> None:
    """A volume that was not mounted, a bucket that a setting changed: the objects must not be deleted."""
    with pytest.raises(LucidError) as error:
        bucket.prune(known=("f1", "f2"))
    assert error.value.reason is Reason.DESTINATION_UNAVAILABLE
    assert "nothing was removed" in error.value.message
    assert bucket.prune().removed == ()


def test_a_sweep_leaves_those_made_by_hand_to_their_objects(bucket: Bucket) -> None:
    """retentionDays can be raised: the manifest still has the days of the beginning."""
    bucket.add(by_hand(50), by_hand(40), nightly(1))
    bucket.prune(by_hand=("f50",))
    assert bucket.there() == {"f50", "f1"}, "the object of f40 is gone, so its manifest says how long"


def test_what_a_gone_schedule_left_goes_after_its_days_unless_another_of_its_rules_keeps_it(
    bucket: Bucket,
) -> None:
    rules = RetentionRules(days=3, keep_last=1)
    bucket.add(*(nightly(d, rules=rules) for d in (9, 8, 7)))
    result = bucket.prune(sweep=False, rules={}, expire=("f8", "f7"))
    assert bucket.there() == {"f9", "f7"}, "nobody asked for f9 yet"
    assert result.removed == ("f8",)
    assert [r.id for r in result.retained] == ["f7"]
    assert "one of the last 1" in result.retained[0].because


def test_in_a_chain_without_a_schedule_slices_go_with_what_needed_them(bucket: Bucket) -> None:
    """Nobody sweeps there: what incrementals by hand wrote would lie there for ever."""
    early = piece(50 * DAY, 60 * DAY, completed_at=ago(40), schedule=None)
    late = piece(60 * DAY, 95 * DAY, completed_at=ago(5), schedule=None)
    bucket.add(
        by_hand(50),
        early,
        incremental("i40", 60 * DAY, "f50", completed_at=ago(40), schedule=None),
        by_hand(20),
        late,
        incremental("i5", 95 * DAY, "f20", completed_at=ago(5), schedule=None),
    )
    held = bucket.prune(sweep=False, rules={}, remove=("f50",))
    assert [r.because for r in held.retained] == ["The backup i40 builds on it."]
    assert len(bucket.there()) == 6
    bucket.prune(sweep=False, rules={}, remove=("i40",))
    assert bucket.there() == {"f20", "i5", late.id}, "the full that was marked goes too, and its slices"
    assert not any("/f50/" in path or early.id in path for path in bucket.files())


def test_without_a_schedule_too_what_stopped_workers_left_goes_when_it_is_old(bucket: Bucket) -> None:
    bucket.add(by_hand(1))
    left = FOLDER.object("stopped", ObjectKind.MONGODB_ARCHIVE)
    bucket.store.put(left, b"half")
    bucket.prune(sweep=False, remove=("f1",))
    assert left in bucket.files()
    long_ago = ago(3).timestamp()
    os.utime(bucket.path / left, (long_ago, long_ago))
    bucket.prune(sweep=False, remove=("f1",))
    assert left not in bucket.files()


def test_a_clock_that_runs_ahead_lets_no_data_go(bucket: Bucket) -> None:
    bucket.add(by_hand(5), by_hand(1))
    with pytest.raises(LucidError) as error:
        bucket.prune(sweep=False, remove=("f5",), due=ago(-25))
    assert "set the clocks of the nodes right" in error.value.message
    assert bucket.there() == {"f5", "f1"}
    assert not any(path.endswith(MARK) for path in bucket.files()), (
        "it is not marked for a later worker either"
    )
    bucket.prune(sweep=False, remove=("f5",), due=ago(0.1))
    assert bucket.there() == {"f1"}


def test_what_was_to_be_removed_and_was_not_there_is_told_apart_from_what_went(bucket: Bucket) -> None:
    """Another volume of the same path, say: `its data were removed` would be a word about nothing."""
    bucket.add(nightly(5), nightly(1))
    result = bucket.prune(sweep=False, remove=("f5", "elsewhere"), known=("f5", "elsewhere"))
    assert (set(result.removed), result.missing) == ({"f5", "elsewhere"}, ("elsewhere",))
    assert bucket.there() == {"f1"}


def test_one_backup_is_not_removed_from_a_place_where_none_of_its_chain_lies(bucket: Bucket) -> None:
    with pytest.raises(LucidError) as error:
        bucket.prune(sweep=False, remove=("f5",), known=("f5",))
    assert error.value.reason is Reason.DESTINATION_UNAVAILABLE
