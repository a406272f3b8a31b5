"""A proof by a restore calls nothing bad but the backup itself, and forgets nothing that it found (rule 1.11)."""

import io
from collections.abc import Iterable
from typing import Any

import pytest
from workshop import Workshop

from lucid_storage.archive.manifest import Proof, ProofLevel
from lucid_storage.archive.records import write_proof
from lucid_storage.errors import LucidError, Reason, StoreUnavailableError
from lucid_storage.jobs import mongodb_restore_plan, mongodb_restore_targets, restore_proof
from lucid_storage.jobs.contract import CancelledError
from lucid_storage.jobs.destination import Place
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.restore import restore
from lucid_storage.jobs.restore_proof import whole_order
from lucid_storage.jobs.verify import verify
from lucid_storage.jobs.worker import Stop
from lucid_storage.models.backup import Verify
from lucid_storage.models.orders import BackupOrder, BackupResult, RestoreOrder, VerifyOrder
from lucid_storage.stores.mongodb.dump.member import PinnedMember
from lucid_storage.stores.mongodb.restore import comparing, scratch
from lucid_storage.stores.mongodb.restore.catalog import Tracked
from lucid_storage.stores.mongodb.restore.target import Target
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb


@pytest.fixture
def proving(shop: Workshop, mongodb: MongoDB) -> Workshop:
    """The shared server is its own verify server."""
    shop.environ["BACKUP_VERIFY_URI"] = mongodb.uri
    return shop


def proved_again(shop: Workshop, backup_id: str | None) -> BackupResult:
    """By a restore, in the test's own process."""
    order = VerifyOrder.model_validate(
        {**shop.order("again", []), "backupId": backup_id, "verify": "Restore"}
    )
    return verify(order, shop.here(), Reporter(out=io.StringIO()), Stop())


def proof_of(shop: Workshop) -> Proof:
    (record,) = shop.records()
    assert record.proof is not None
    return record.proof


def test_a_backup_of_a_volume_too_is_proved_as_far_as_that_goes(
    proving: Workshop, mongodb: MongoDB, database: str
) -> None:
    volume = proving.folder / "volumes" / "v"
    volume.mkdir(parents=True)
    (volume / "file").write_text("text")
    proving.environ["LUCID_VOLUMES"] = str(volume.parent)
    with mongodb.client() as client:
        client[database].a.insert_one({"_id": 1})
    source = {"name": "v", "claim": "v", "folder": "v"}
    told = proving.made("b", database, engines=["mongodb", "volumes"], volumes=[source], verify="Restore")
    assert (told.ok, told.verified, told.verify_note) == (True, Verify.CHECKSUM, "NoVerifyServer"), told


def test_what_else_is_backed_up_is_no_part_of_the_order_to_restore(shop: Workshop) -> None:
    more: dict[str, Any] = {
        "elasticsearch": {"indices": ["a-*"], "method": "Export"},
        "volumes": [{"name": "v", "claim": "v"}],
        "mongodb": {"databases": ["shop"]},
        "databasePatterns": ["shop"],
        "orderedAt": "2026-01-01T00:00:00Z",
    }
    order = BackupOrder.model_validate(shop.order("b", ["mongodb"], **more))
    wanted = whole_order(order, order.id)
    assert (wanted.backup_id, wanted.run, wanted.chain) == (order.id, order.run, order.chain)
    assert wanted.database_patterns == ("*",), "it goes under names of our own"
    assert wanted.ordered_at == order.ordered_at


def test_more_databases_than_one_restore_writes_are_proved(
    proving: Workshop, mongodb: MongoDB, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongodb_restore_targets, "MOST_DATABASES", 1)
    names = [f"{database}{n}" for n in range(2)]
    with mongodb.client() as client:
        try:
            for name in names:
                client[name].a.insert_one({"_id": name})
            told = proving.made("many", database, mongodb={"databases": names}, verify="Restore")
        finally:
            for name in names:
                client.drop_database(name)
    assert (told.ok, told.verified, told.verify_note) == (True, Verify.RESTORE, None), told
    order = {**proving.order("back", ["mongodb"]), "backupId": told.id}
    with pytest.raises(LucidError, match="make one Restore for each"):
        restore(RestoreOrder.model_validate(order), proving.here(), Reporter(out=io.StringIO()), Stop())


def test_a_name_that_only_a_scratch_database_makes_too_long_is_proved(
    proving: Workshop, mongodb: MongoDB, database: str
) -> None:
    room = 255 - len(database) - 1
    with mongodb.client() as client:
        client[database]["c" * room].insert_one({"_id": 1})
        client[database].command({"create": "v" * room, "viewOn": "a", "pipeline": []})
    told = proving.made("long", database, verify="Restore")
    assert (told.ok, told.verified, told.verify_note) == (True, Verify.RESTORE, None), told


def test_what_an_older_server_does_not_replay_is_its_own_fault(
    proving: Workshop, mongodb: MongoDB, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mongodb.client() as client:
        client[database].a.insert_one({"_id": 1})
    made = proving.made("b", database)

    def refuse(*_: object) -> None:
        raise LucidError("An operation finds nothing.", reason=Reason.REPLAY_REFUSED)

    monkeypatch.setattr(restore_proof, "prove_mongodb", refuse)
    monkeypatch.setattr(PinnedMember, "version", "4.4.29")
    told = proved_again(proving, made.id)
    assert (told.ok, told.verified, told.verify_note) == (True, Verify.CHECKSUM, "NoVerifyServer")
    assert "4.4.29" in told.verify_message
    monkeypatch.setattr(PinnedMember, "version", "9.0.1")
    told = proved_again(proving, made.id)
    assert (told.ok, told.reason, told.verified) == (False, Reason.VERIFY_FAILED, None)


@pytest.mark.parametrize(
    ("version", "bad"), [("4.4.29", False), ("9.0.1", False), ("", True)], ids=["older", "newer", "same"]
)
def test_what_a_server_of_another_version_does_not_take_is_its_own_fault(
    proving: Workshop,
    mongodb: MongoDB,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    bad: bool,
) -> None:
    with mongodb.client() as client:
        client[database].a.insert_one({"_id": 1})
        # What no server makes stands for what another version does not make any more.
        monkeypatch.setattr(Tracked, "creation", lambda _: {"capped": True})
    made = proving.made("b", database)
    if version:
        monkeypatch.setattr(PinnedMember, "version", version)
    told = proved_again(proving, made.id)
    if bad:
        assert (told.ok, told.reason, told.verified) == (False, Reason.VERIFY_FAILED, None)
        assert f"cannot make {database}.a" in told.message
    else:
        assert (told.ok, told.verified, told.verify_note) == (True, Verify.CHECKSUM, "NoVerifyServer")
        assert f"is a MongoDB {version}" in told.verify_message


def test_a_verify_server_without_room_loads_nothing(
    proving: Workshop, mongodb: MongoDB, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mongodb.client() as client:
        client[database].a.insert_one({"_id": 1, "text": "x" * 1000})
    monkeypatch.setattr(mongodb_restore_plan, "SPACE_FACTOR", 1e15)
    monkeypatch.delattr(restore_proof, "prove_mongodb")
    told = proving.made("b", database, verify="Restore")
    assert (told.ok, told.verified, told.verify_note) == (True, Verify.CHECKSUM, "NoVerifyServer"), told
    assert "free on each member of BACKUP_VERIFY_URI" in told.verify_message


@pytest.mark.parametrize("bad", [True, False])
def test_what_was_found_holds_though_the_scratch_databases_stay(
    proving: Workshop, mongodb: MongoDB, database: str, monkeypatch: pytest.MonkeyPatch, bad: bool
) -> None:
    with mongodb.client() as client:
        client[database].a.insert_one({"_id": 1})
    made = proving.made("b", database)
    drop = scratch.drop

    def differ(*_: object) -> None:
        raise LucidError("It has another content.", reason=Reason.COUNT_MISMATCH)

    def lose(target: Target, databases: Iterable[str]) -> None:
        names = list(databases)
        drop(target, names)
        if names:
            raise StoreUnavailableError("There is no primary.")

    if bad:
        monkeypatch.setattr(comparing, "compare", differ)
    monkeypatch.setattr(scratch, "drop", lose)
    told = proved_again(proving, made.id)
    proof = proof_of(proving)
    assert (proof.level, proof.passed) == (ProofLevel.RESTORE, not bad)
    if bad:
        assert (told.ok, told.reason, told.verified) == (False, Reason.VERIFY_FAILED, None)
    else:
        assert (told.ok, told.verified, told.verify_note) == (True, Verify.RESTORE, None)


@pytest.mark.parametrize("why", [Reason.CANCELLED, Reason.DEADLINE_EXCEEDED])
def test_what_was_read_before_a_restore_that_was_stopped_is_not_lost(
    proving: Workshop, mongodb: MongoDB, database: str, monkeypatch: pytest.MonkeyPatch, why: Reason
) -> None:
    def stopped(*given: Any) -> None:
        given[-1].reason = why
        given[-1].event.set()
        raise CancelledError("The check was stopped.")

    monkeypatch.setattr(restore_proof, "prove_by_restore", stopped)
    with mongodb.client() as client:
        client[database].a.insert_one({"_id": 1})
    if why is Reason.DEADLINE_EXCEEDED:
        told = proving.made("b", database, verify="Restore")
        assert (told.ok, told.verified, told.verify_note) == (True, Verify.CHECKSUM, "DeadlineExceeded"), told
    else:
        told = proving.made("b", database, verify="Restore")
        assert (told.ok, told.reason, told.verified) == (False, why, None)
    first = proof_of(proving)
    assert (first.level, first.passed) == (ProofLevel.CHECKSUM, True)
    with pytest.raises(LucidError):
        proved_again(proving, proving.records()[0].id)
    assert proof_of(proving).at > first.at
    (record,) = proving.records()
    failed = first.model_copy(update={"level": ProofLevel.RESTORE, "passed": False})
    place = Place.of(BackupOrder.model_validate(proving.order("b", [])), proving.here())
    write_proof(place.store, place.home(record.manifest), failed, place.key)
    with pytest.raises(LucidError):
        proved_again(proving, record.id)
    assert proof_of(proving) == failed, "a reading says nothing of what a restore found"
