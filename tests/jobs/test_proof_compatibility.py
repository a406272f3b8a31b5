"""A server between the two steps of an upgrade, with an older feature compatibility version than its program, takes not
all of what one of the same version holds: no backup is bad for that (rule 1.11), and a Restore says so."""

import io
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from workshop import Workshop

from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.restore import restore
from lucid_storage.jobs.worker import Stop
from lucid_storage.models.backup import Verify
from lucid_storage.models.orders import RestoreOrder
from testbed.stores.mongodb import Client, MongoDB

pytestmark = pytest.mark.mongodb


@pytest.fixture
def upgrading(private_mongodb: Callable[..., MongoDB]) -> MongoDB:
    """Of the version of the shared server, and not yet of its features."""
    server = private_mongodb()
    with server.client() as client:
        client.admin.command("setFeatureCompatibilityVersion", "5.0")
    return server


def clustered(client: Client, database: str) -> None:
    client[database].create_collection("c", clusteredIndex={"key": {"_id": 1}, "unique": True})
    client[database].c.insert_one({"_id": 1})


def with_images(client: Client, database: str) -> None:
    client[database].create_collection("c", changeStreamPreAndPostImages={"enabled": True})
    client[database].c.insert_one({"_id": 1})


def with_an_index_of_measurements(client: Client, database: str) -> None:
    made = client[database].create_collection("c", timeseries={"timeField": "at"})
    made.insert_one({"at": datetime.now(UTC), "x": 1})
    made.create_index("x")


def not_proved(shop: Workshop, database: str, why: str) -> None:
    """A backup is good, and its note says why no restore proves it."""
    told = shop.made("b", database, verify="Restore")
    assert (told.ok, told.verified, told.verify_note) == (True, Verify.CHECKSUM, "NoVerifyServer"), told
    assert why in told.verify_message


@pytest.mark.parametrize("newer", [clustered, with_images, with_an_index_of_measurements])
def test_a_backup_that_holds_what_came_with_the_version_is_read_and_not_called_bad(
    upgrading: MongoDB, shop: Workshop, mongodb: MongoDB, database: str, newer: Callable[[Client, str], None]
) -> None:
    shop.environ["BACKUP_VERIFY_URI"] = upgrading.uri
    with mongodb.client() as client:
        newer(client, database)
    not_proved(shop, database, "featureCompatibilityVersion 5.0")


def test_where_its_features_may_not_be_asked_for_nothing_that_it_refuses_makes_a_backup_bad(
    private_mongodb: Callable[..., MongoDB], shop: Workshop, mongodb: MongoDB, database: str
) -> None:
    server = private_mongodb(auth=True)
    with server.client() as client:
        client.admin.command("setFeatureCompatibilityVersion", "5.0")
        grant = {"resource": {"cluster": True}, "actions": ["applyOps", "replSetGetConfig"]}
        client.admin.command("createRole", "lucidRestore", privileges=[grant], roles=[])
    roles = ("readWriteAnyDatabase", "dbAdminAnyDatabase", "lucidRestore")
    server.create_user("blind", "a-secret", [(role, "admin") for role in roles])
    shop.environ["BACKUP_VERIFY_URI"] = server.uri_for("blind", "a-secret")
    with mongodb.client() as client:
        clustered(client, database)
    not_proved(shop, database, "may not read")


def test_a_restore_says_that_the_server_does_not_take_the_features_of_its_version_yet(
    upgrading: MongoDB, shop: Workshop, mongodb: MongoDB, database: str
) -> None:
    with mongodb.client() as client:
        clustered(client, database)
    made = shop.made("b", database)
    shop.environ["MONGODB_URI"] = upgrading.uri
    order = {**shop.order("back", ["mongodb"]), "backupId": made.id}
    with pytest.raises(LucidError) as refused:
        restore(RestoreOrder.model_validate(order), shop.here(), Reporter(out=io.StringIO()), Stop())
    assert refused.value.reason is Reason.CONTENT_REFUSED
    assert "The server's featureCompatibilityVersion is 5.0" in refused.value.message
