"""Slices, incrementals and differentials are one line without a hole (rule 1.3 to 1.7)."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chain_bed import Chain, one_line, running, told
from dump_bed import ROLLS_OVER_SOON, counting, inserted, oldest, until
from pymongo import MongoClient, WriteConcern

from lucid_storage.archive.continuity import runs, windows
from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.manifest import BackupKind, Closing, Manifest
from lucid_storage.errors import DestinationError, LucidError, Reason
from lucid_storage.models.backup import BackupType, MongoSelection, ReadPreference
from lucid_storage.stores.mongodb.dump import member, oplog, pinning
from lucid_storage.stores.mongodb.dump.pinning import pin
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb

FULL, INCREMENTAL, DIFFERENTIAL = BackupType.FULL, BackupType.INCREMENTAL, BackupType.DIFFERENTIAL


@pytest.fixture
def chain_of(tmp_path: Path) -> Iterator[Callable[[MongoDB], Chain]]:
    """A chain of the database shop in a server of the test's own."""
    with ExitStack() as opened:
        yield lambda server: opened.enter_context(
            closing(Chain(tmp_path, server.uri, MongoSelection(databases=["shop"])))
        )


def test_writers_that_count_up_are_in_full_and_slices_without_a_hole(
    client: MongoClient[Any], chain: Chain, db: str
) -> None:
    """Every write is in the full's data, its oplog or exactly one slice; and at any end of one there is no hole."""
    slicer = chain.slicer()
    with counting(client, db, ("a", "b"), pause=0.001) as written:
        until(lambda: written[0] > 20, "some writes")
        assert slicer.step().ok
        full = chain.back_up(FULL)
        for _ in range(4):
            at = written[0]
            until(lambda at=at: written[0] > at + 30, "more writes")  # type: ignore[misc]
            assert slicer.step().ok
        at = written[0]
        incremental = chain.back_up(INCREMENTAL)
    pieces = chain.slices()
    assert len(pieces) >= 5
    one_line(pieces)
    for name in ("a", "b"):
        numbers = [n for piece in pieces for n in inserted(chain.oplog(piece), f"{db}.{name}")]
        assert len(numbers) == len(set(numbers)), "an entry is in two slices"
        before = {d["_id"] for d in chain.documents(full, f"{db}.{name}")}
        everything = before | set(inserted(chain.oplog(full), f"{db}.{name}")) | set(numbers)
        assert everything == set(range(1, len(everything) + 1))
        assert len(everything) >= at
    assert incremental.base == full.id
    assert incremental.objects == ()
    assert incremental.mongodb is not None
    assert incremental.mongodb.to == pieces[-1].mongodb.to  # type: ignore[union-attr]
    counted = {
        row.namespace: row.inserts
        for piece in pieces
        for row in piece.mongodb.operations  # type: ignore[union-attr]
    }
    assert set(counted) == {f"{db}.a", f"{db}.b"}


def test_an_incremental_without_a_worker_holds_every_write_that_was_confirmed_before_it(
    client: MongoClient[Any], chain: Chain, db: str
) -> None:
    client[db].a.insert_one({"_id": 0})
    full = chain.back_up(FULL)
    for number in range(1, 4):
        client[db].a.insert_one({"_id": number})
        backup = chain.back_up(INCREMENTAL)
        assert inserted(chain.oplog(chain.slices()[-1]), f"{db}.a") == [number]
        assert backup.mongodb is not None
        assert [(r.namespace, r.inserts) for r in backup.mongodb.operations] == [(f"{db}.a", 1)]
    one_line(chain.slices())
    assert chain.slices()[0].prev == full.mongodb.to  # type: ignore[union-attr]


def test_a_running_worker_cuts_its_slice_when_an_incremental_asks(
    client: MongoClient[Any], chain: Chain, db: str
) -> None:
    """rule 1.5."""
    client[db].a.insert_one({"_id": 0})
    chain.back_up(FULL)
    slicer = chain.slicer(interval_seconds=3600)
    with running(slicer):
        until(lambda: told(slicer), "the first slice")
        client[db].a.insert_one({"_id": 1})
        backup = chain.back_up(INCREMENTAL, slicing=True)
        until(lambda: len(told(slicer)) >= 2, "the slice that was asked for")
    assert backup.mongodb is not None
    assert told(slicer)[1]["toOptime"] == str(backup.mongodb.to.optime)
    assert inserted(chain.oplog(chain.slices()[-1]), f"{db}.a") == [1]
    assert chain.place.folder.cut not in chain.files()


def test_a_worker_that_does_not_cut_is_not_waited_for_for_ever(
    client: MongoClient[Any], chain: Chain, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lucid_storage.jobs.mongodb_line.CUT_SECONDS", 1.0)
    client[db].a.insert_one({"_id": 0})
    chain.back_up(FULL)
    client[db].a.insert_one({"_id": 1})
    chain.back_up(INCREMENTAL, slicing=True)
    assert inserted(chain.oplog(chain.slices()[-1]), f"{db}.a") == [1]


def test_of_two_writers_one_wins_and_the_other_goes_on_behind(
    client: MongoClient[Any], chain: Chain, db: str
) -> None:
    client[db].a.insert_one({"_id": 0})
    chain.back_up(FULL)
    slicers = [chain.slicer() for _ in range(2)]
    for slicer in slicers:
        assert slicer.step().ok
    threads = []
    for round_ in range(4):
        client[db].a.insert_many([{"_id": f"{round_}-{n}"} for n in range(20)])
        threads = [threading.Thread(target=slicer.step) for slicer in slicers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    pieces = chain.slices()
    one_line(pieces)
    ids = [n for piece in pieces for n in inserted(chain.oplog(piece), f"{db}.a")]
    assert sorted(ids) == sorted({f"{r}-{n}" for r in range(4) for n in range(20)})
    named = {stored.path for piece in pieces for stored in piece.objects}
    assert {path for path in chain.files() if path.endswith(".oplog")} == named, "the loser's data are left"
    assert len(runs(chain.records())) == 1


def test_idle_time_makes_slices_without_data(client: MongoClient[Any], chain: Chain, db: str) -> None:
    """rule 1.3: no-ops count as progress."""
    client[db].a.insert_one({"_id": 0})
    chain.back_up(FULL)
    slicer = chain.slicer()
    assert slicer.step().ok
    client[f"{db}_other"].x.insert_one({})
    try:
        report = slicer.step()
    finally:
        client.drop_database(f"{db}_other")
    assert (report.ok, report.entries, report.stored_bytes) == (True, 0, 0)
    last = chain.slices()[-1]
    assert last.objects == ()
    assert last.mongodb.to.optime > last.prev.optime  # type: ignore[union-attr]
    assert report.oplog_window_seconds is not None


def test_an_oplog_that_rolled_over_is_a_gap_by_hand_and_a_full_on_a_schedule(
    private_mongodb: Any, chain_of: Callable[[MongoDB], Chain]
) -> None:
    server: MongoDB = private_mongodb(**ROLLS_OVER_SOON)
    chain = chain_of(server)
    with server.client() as client:
        client.shop.a.insert_one({"_id": 0})
        first = chain.back_up(FULL)
        slicer = chain.slicer()
        client.shop.a.insert_one({"_id": 1})
        assert slicer.step().ok
        roll_over(client, chain.slices()[-1])
        with pytest.raises(LucidError) as caught:
            chain.back_up(INCREMENTAL)
        assert caught.value.reason is Reason.OPLOG_GAP
        with pytest.raises(LucidError) as caught:
            chain.back_up(DIFFERENTIAL)
        assert caught.value.reason is Reason.OPLOG_GAP
        chain.scheduled = True
        again = chain.back_up(INCREMENTAL)
        assert again.kind is BackupKind.FULL
        assert again.timeline != first.timeline
        # The slicer goes on with the new timeline; nothing joins the two.
        client.shop.a.insert_one({"_id": 2})
        assert slicer.step().ok
        assert chain.slices()[-1].timeline == again.timeline
        assert all(len(r.slices) == 1 for r in runs(chain.records()))


def roll_over(client: MongoClient[Any], last: Manifest) -> None:
    assert last.mongodb is not None
    end = last.mongodb.to.optime

    def gone() -> bool:
        client.noise.x.insert_many([{"x": "y" * 50_000} for _ in range(100)])
        first = oldest(client)
        return bool((first.time, first.inc) > (end.seconds, end.counter))

    until(gone, "an oplog that begins later", 120)


def test_a_restore_that_swaps_closes_the_timeline_just_before_it(
    client: MongoClient[Any], chain: Chain, db: str
) -> None:
    """rule 1.7, judged from the oplog alone."""
    client[db].a.insert_one({"_id": 0})
    chain.back_up(FULL)
    slicer = chain.slicer()
    assert slicer.step().ok
    client[db].a.insert_one({"_id": "before"})
    client[db]["lucid_stg_run_1"].insert_one({"_id": "restored"})
    client[db].a.rename("lucid_old_run_1")
    client[db]["lucid_stg_run_1"].rename("a")
    client[db].a.insert_one({"_id": "after"})
    report = slicer.step()
    assert (report.ok, report.closed) == (True, True)
    closing = chain.slices()[-1]
    assert closing.closing is Closing.RESTORE
    assert inserted(chain.oplog(closing), f"{db}.a") == ["before"]
    assert not any("lucid_" in str(entry) for entry in chain.oplog(closing))
    with pytest.raises(LucidError) as caught:
        chain.back_up(INCREMENTAL)
    assert caught.value.reason is Reason.NO_BASE
    # The slicer begins a new timeline at once, which the next full joins.
    assert slicer.step().ok
    client[db].a.insert_one({"_id": "new line"})
    full = chain.back_up(FULL)
    assert full.timeline != closing.timeline
    assert {d["_id"] for d in chain.documents(full, f"{db}.a")} >= {"restored", "after"}


def test_a_full_behind_a_restore_that_the_running_worker_has_not_read_yet_is_gone_on_from(
    client: MongoClient[Any], chain: Chain, db: str
) -> None:
    client[db].a.insert_one({"_id": 0})
    chain.back_up(FULL)
    client[db].a.insert_one({"_id": 1})
    slicer = chain.slicer()
    with running(slicer):
        until(chain.slices, "the first slice")
        client[db].a.insert_one({"_id": "before"})
        client[db]["lucid_stg_run_1"].insert_one({"_id": "restored"})
        client[db].a.rename("lucid_old_run_1")
        client[db]["lucid_stg_run_1"].rename("a")
        full = chain.back_up(FULL, slicing=True)
        client[db].a.insert_one({"_id": "after"})
        incremental = chain.back_up(INCREMENTAL, slicing=True)
    assert incremental.timeline == full.timeline
    assert incremental.base == full.id
    closing = next(piece for piece in chain.slices() if piece.closing is Closing.RESTORE)
    assert closing.timeline != full.timeline
    assert inserted(chain.oplog(closing), f"{db}.a") == ["before"]
    assert inserted(chain.oplog(chain.slices()[-1]), f"{db}.a") == ["after"]


def test_renames_are_looked_for_piece_by_piece(
    client: MongoClient[Any], chain: Chain, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that reads a long oplog in one search is silent for longer than a connection waits."""
    monkeypatch.setattr(oplog, "PIECE_SECONDS", 1)
    checks: list[None] = []
    with closing(pin(chain.uri, ReadPreference.PRIMARY)) as pinned:

        def last() -> oplog.EntryPoint:
            newest = pinning.newest(chain.uri)
            assert newest is not None
            pinned.catch_up(newest, lambda: None)
            return read.last()

        def later() -> bool:
            client[db].a.insert_one({})
            return last().optime.seconds >= begin.optime.seconds + 2

        read = oplog.Oplog(pinned)
        client[db].b.insert_one({})
        begin = last()
        client[db].b.rename("c")
        until(later, "an oplog of seconds")
        client[db].c.rename("d")
        found = list(read.renames(begin, last().optime, lambda: checks.append(None)))
    assert len(found) == 2
    assert len(checks) >= 3


def test_an_incremental_by_hand_that_meets_a_rename_out_of_the_selection_keeps_what_came_before_it(
    mongodb_rs3: MongoDB, client: MongoClient[Any], db: str, tmp_path: Path
) -> None:
    chain = Chain(tmp_path, mongodb_rs3.uri, MongoSelection(collections=[f"{db}.a"]))
    client[db].a.insert_one({"_id": 0})
    chain.back_up(FULL)
    client[db].a.insert_one({"_id": "before"})
    client[db].a.rename("outside")
    with pytest.raises(LucidError) as caught:
        chain.back_up(INCREMENTAL)
    assert caught.value.reason is Reason.NO_BASE
    (piece,) = chain.slices()
    assert piece.closing is Closing.RENAME
    assert inserted(chain.oplog(piece), f"{db}.a") == ["before"]
    with pytest.raises(LucidError) as caught:
        chain.back_up(INCREMENTAL)
    assert caught.value.reason is Reason.NO_BASE


def test_a_timeline_that_is_closed_at_once_is_closed_all_the_same(
    mongodb_rs3: MongoDB, client: MongoClient[Any], db: str, tmp_path: Path
) -> None:
    """The rename is the first entry behind the full, so that there is nothing to write before it."""
    with closing(Chain(tmp_path, mongodb_rs3.uri, MongoSelection(collections=[f"{db}.a"]))) as chain:
        client[db].a.insert_one({"_id": 0})
        first = chain.back_up(FULL)
        client[db].a.rename("outside")
        slicer = chain.slicer()
        report = slicer.step()
        assert (report.ok, report.closed) == (True, True)
        client[db].a.insert_one({"_id": "another"})
        assert slicer.step().ok
        full = chain.back_up(FULL)
        assert full.timeline != first.timeline


def test_other_definitions_are_in_the_slices_in_their_order(
    client: MongoClient[Any], chain: Chain, db: str
) -> None:
    client[db].a.insert_one({"_id": 0})
    chain.back_up(FULL)
    client[db].a.create_index("x")
    client[db].a.rename("b")
    client[db].b.insert_one({"_id": 1})
    client[db].command("collMod", "b", validator={})
    client[db].b.drop()
    client[db].create_collection("weather", timeseries={"timeField": "at"})
    chain.back_up(INCREMENTAL)
    (piece,) = chain.slices()
    entries = chain.oplog(piece)
    commands = [next(iter(e["o"])) for e in entries if e["op"] == "c"]
    assert [c for c in commands if c not in ("startIndexBuild", "commitIndexBuild")] in (
        ["createIndexes", "renameCollection", "collMod", "drop", "create"],
        ["renameCollection", "collMod", "drop", "create"],
    )
    rows = {row.namespace: row for row in piece.mongodb.operations}  # type: ignore[union-attr]
    assert rows[f"{db}.b"].inserts == 1
    assert rows[f"{db}.b"].commands == 2


@pytest.mark.parametrize("with_slices", [True, False], ids=["from slices", "from the oplog alone"])
def test_a_differential_holds_everything_since_its_full(
    client: MongoClient[Any], chain: Chain, db: str, with_slices: bool
) -> None:
    """rule 1.6."""
    slicer = chain.slicer()
    if with_slices:
        assert slicer.step().ok  # a slice that begins before the full and so holds its end
        client[db].a.insert_one({"_id": -2})
    client[db].a.insert_one({"_id": -1})
    full = chain.back_up(FULL)
    for number in range(6):
        client[db].a.insert_one({"_id": number})
        if with_slices and number in (1, 3):
            assert slicer.step().ok
    backup = chain.back_up(DIFFERENTIAL)
    assert backup.base == full.id
    assert backup.prev == full.mongodb.to  # type: ignore[union-attr]
    assert inserted(chain.oplog(backup), f"{db}.a") == list(range(6))
    assert [(r.namespace, r.inserts) for r in backup.mongodb.operations] == [(f"{db}.a", 6)]  # type: ignore[union-attr]
    times = [(e["ts"].time, e["ts"].inc) for e in chain.oplog(backup)]
    assert times == sorted(times)
    client[db].a.insert_one({"_id": 6})
    later = chain.back_up(DIFFERENTIAL)
    assert inserted(chain.oplog(later), f"{db}.a") == list(range(7))
    assert later.parent == backup.id


def test_what_can_be_restored_grows_with_the_slices(client: MongoClient[Any], chain: Chain, db: str) -> None:
    """rule 1.4."""
    slicer = chain.slicer()
    assert slicer.step().ok
    client[db].a.insert_one({"_id": 0})
    full = chain.back_up(FULL)
    end = full.mongodb.to.optime.seconds  # type: ignore[union-attr]

    def later() -> bool:
        client[db].a.insert_one({})
        return int(time.time()) > end + 2

    until(later, "a later second")
    assert slicer.step().ok
    (window,) = windows(chain.records())
    assert window.first == end
    assert window.last == chain.slices()[-1].mongodb.to.optime.seconds - 1  # type: ignore[union-attr]


class Away:
    """A destination that takes data and then no manifest."""

    def __init__(self, store: FolderStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        raise DestinationError(f"{path} is out of reach.")


def test_a_slicer_survives_a_store_and_a_destination_that_are_away(
    private_mongodb: Any, chain_of: Callable[[MongoDB], Chain], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinning, "SELECTION_MS", 3_000)
    server: MongoDB = private_mongodb()
    chain = chain_of(server)
    with server.client() as client:
        client.shop.a.insert_one({"_id": 0})
        chain.back_up(FULL)
        slicer = chain.slicer()
        slicer.jitter = lambda: -0.48
        with running(slicer):
            until(lambda: told(slicer), "the first slice")
            server.stop()
            chain.place.store.put(chain.place.folder.cut, b"{}")
            until(lambda: not told(slicer)[-1]["ok"], "a report of the outage", 60)
            assert told(slicer)[-1]["reason"] == Reason.STORE_UNAVAILABLE
            server.start()
            client.shop.a.insert_one({"_id": 1})
            until(lambda: told(slicer)[-1]["ok"], "a slice after the outage", 90)
            slicer.place = replace(chain.place, store=Away(chain.store))  # type: ignore[arg-type]
            client.shop.a.insert_one({"_id": 2})
            assert slicer.step().reason is Reason.DESTINATION_UNAVAILABLE
            slicer.place = chain.place
            count = len(told(slicer))
            chain.store.put(chain.place.folder.cut, b"{}")
            until(lambda: len(told(slicer)) > count and told(slicer)[-1]["ok"], "a slice after that", 90)
    ids = [n for piece in chain.slices() for n in inserted(chain.oplog(piece), "shop.a")]
    assert ids == [1, 2]
    one_line(chain.slices())


def test_a_slicer_that_is_stopped_leaves_nothing_half_written(
    client: MongoClient[Any], chain: Chain, db: str
) -> None:
    client[db].a.insert_one({"_id": 0})
    chain.back_up(FULL)
    slicer = chain.slicer()
    with running(slicer):
        until(lambda: told(slicer), "the first slice")
        before = chain.files()
    assert chain.files() == before
    slicer.stop.set()
    client[db].a.insert_one({"_id": 1})
    assert slicer.step().reason is Reason.CANCELLED
    assert chain.files() == before


def test_a_slicer_on_another_deployment_is_refused(chain: Chain) -> None:
    slicer = chain.slicer()
    slicer.order = slicer.order.model_copy(update={"server_identity": "another"})
    assert slicer.step().reason is Reason.TARGET_CHANGED
    assert not chain.slices()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member, "CATCH_UP_SECONDS", 0.5)


@pytest.mark.usefixtures("impatient")
def test_a_member_that_lags_is_waited_for_and_is_no_hole(
    private_mongodb: Any, chain_of: Callable[[MongoDB], Chain]
) -> None:
    """The entry that the line goes on from is not on the secondary yet: it is late, not lost."""
    server: MongoDB = private_mongodb(members=3, parameters={"enableTestCommands": "1"})
    chain = chain_of(server)
    secondary = chain.selection
    with server.client() as client:
        shop = client.get_database("shop", write_concern=WriteConcern("majority"))
        shop.a.insert_one({"_id": 0})
        chain.back_up(FULL)
        with closing(pin(server.uri)) as pinned:
            late = pinned.host
        with MongoClient[Any](late, directConnection=True) as direct:
            direct.admin.command("configureFailPoint", "rsSyncApplyStop", mode="alwaysOn")
            try:
                shop.a.insert_one({"_id": 1})
                chain.selection = secondary.model_copy(update={"read_preference": ReadPreference.PRIMARY})
                chain.back_up(INCREMENTAL)
                chain.selection = secondary
                with pytest.raises(LucidError) as failed:
                    chain.back_up(INCREMENTAL)
                assert failed.value.reason is Reason.STORE_UNAVAILABLE
                assert late in failed.value.message
            finally:
                direct.admin.command("configureFailPoint", "rsSyncApplyStop", mode="off")
        chain.back_up(INCREMENTAL)
    ids = [n for piece in chain.slices() for n in inserted(chain.oplog(piece), "shop.a")]
    assert ids == [1]
    one_line(chain.slices())


def test_a_slice_that_was_damaged_ends_the_line_and_a_new_one_begins(
    client: MongoClient[Any], chain: Chain, db: str
) -> None:
    chain.scheduled = True
    client[db].a.insert_one({"_id": 0})
    full = chain.back_up(FULL)
    client[db].a.insert_one({"_id": 1})
    chain.back_up(INCREMENTAL)
    (piece,) = chain.slices()
    assert piece.prev is not None
    path = chain.folder / "destination" / chain.place.folder.slice_manifest(piece.timeline, piece.prev.optime)
    path.write_text(path.read_text()[:-20])
    client[db].a.insert_one({"_id": 2})
    slicer = chain.slicer()
    assert slicer.step().ok
    anew = chain.back_up(INCREMENTAL)
    assert anew.kind is BackupKind.FULL
    assert anew.timeline != full.timeline
    client[db].a.insert_one({"_id": 3})
    report = slicer.step()
    assert (report.ok, report.timeline) == (True, anew.timeline), report.message
    (last,) = chain.slices()
    assert inserted(chain.oplog(last), f"{db}.a") == [3]
    assert path.exists()
