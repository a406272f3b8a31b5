"""A backup says what is not in it: nobody finds that out at the restore."""

import io
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from workshop import Workshop

from lucid_storage.errors import ArchiveDamagedError, LucidError, Reason
from lucid_storage.jobs.backup import back_up
from lucid_storage.jobs.engines import Engines
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.worker import Stop
from lucid_storage.models.orders import BackupOrder, BackupResult
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb


@pytest.fixture
def shop(workshop: Callable[..., Workshop], mongodb: MongoDB) -> Workshop:
    return workshop(MONGODB_URI=mongodb.uri)


@pytest.fixture
def filled(mongodb: MongoDB) -> Iterator[str]:
    name = f"told_{uuid.uuid4().hex[:10]}"
    client: MongoClient[Any]
    with mongodb.client() as client:
        client[name].orders.insert_one({"_id": 1})
        yield name
        client.drop_database(name)


def made(shop: Workshop, order: dict[str, Any]) -> BackupResult:
    """In this process."""
    return back_up(BackupOrder.model_validate(order), shop.here(), Reporter(out=io.StringIO()), Stop())


def test_what_was_named_and_is_not_there_is_told_also_when_the_backup_is_found_again(
    shop: Workshop, filled: str
) -> None:
    chosen = {"collections": [f"{filled}.orders", f"{filled}.ordres"]}
    order = shop.order("b", ["mongodb"], mongodb=chosen, refuseNothing=True)
    for result in (made(shop, order), made(shop, order)):
        assert result.ok, result.message
        (engine,) = result.engines
        assert engine.documents == 1
        assert engine.message is not None
        assert f"nothing of {filled}.ordres:" in engine.message


def test_nothing_of_what_a_person_named_is_no_backup(shop: Workshop) -> None:
    order = shop.order("b", ["mongodb"], mongodb={"databases": ["no-such-database"]}, refuseNothing=True)
    with pytest.raises(
        LucidError, match="nothing of no-such-database, so there is nothing to back up"
    ) as told:
        made(shop, order)
    assert told.value.reason is Reason.INVALID_SPEC
    assert shop.files() == []


def test_on_a_schedule_it_is_one_and_is_told(shop: Workshop) -> None:
    """Slices can go on from it, whenever the database is made."""
    result = made(shop, shop.order("b", ["mongodb"], mongodb={"databases": ["no-such-database"]}))
    assert result.ok, result.message
    assert "nothing of no-such-database" in (result.engines[0].message or "")


def test_an_object_that_goes_before_the_manifest_is_no_part_of_a_backup(
    shop: Workshop, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lifecycle rule, or somebody who cleans up, while another engine is still at work."""
    decide = Engines.decide

    def cleaned(*given: Any) -> Any:
        for file in shop.files():
            (shop.destination / file).unlink()
        return decide(*given)

    monkeypatch.setattr(Engines, "decide", cleaned)
    order = shop.order("b", ["mongodb"], mongodb={"databases": [filled]}, verify="Upload")
    with pytest.raises(ArchiveDamagedError, match="lifecycle rule"):
        made(shop, order)
    assert shop.records() == []


def test_a_collection_outside_of_the_databases_is_not_called_absent(shop: Workshop, filled: str) -> None:
    chosen = {"databases": ["other"], "collections": [f"{filled}.orders"]}
    order = shop.order("b", ["mongodb"], mongodb=chosen, refuseNothing=True)
    with pytest.raises(LucidError) as told:
        made(shop, order)
    assert told.value.reason is Reason.INVALID_SPEC
    assert f"chooses nothing of other, {filled}.orders" in told.value.message
    assert "holds nothing" not in told.value.message


def test_a_database_of_which_no_collection_is_chosen_is_told(shop: Workshop, filled: str) -> None:
    chosen = {"databases": ["other", filled], "collections": [f"{filled}.orders"]}
    result = made(shop, shop.order("b", ["mongodb"], mongodb=chosen, refuseNothing=True))
    assert result.ok, result.message
    assert "chooses nothing of other, since" in (result.engines[0].message or "")
