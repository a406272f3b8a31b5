"""Chosen collections from a real chain (rule 2.5): a name means what has it at that moment, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
from restoring import restored
from test_restore_untouched import seen
from workshop import Workshop, only

from lucid_storage.errors import LucidError, Reason
from lucid_storage.models.orders import RestoreResult
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb


def test_a_name_means_what_has_it_at_the_moment(
    mongodb: MongoDB, workshop: Callable[..., Workshop], database: str
) -> None:
    shop, target = workshop(MONGODB_URI=mongodb.uri), f"{database}_t"
    with mongodb.client() as client:
        live = client[database]
        for name in ("users", "old", "other"):
            live[name].insert_one({"_id": name})
        full = shop.back_up("full", ["mongodb"], **only(database))
        with client.start_session() as session:
            for number, names in enumerate((("users", "other"), ("old", "other"), ("users", "old"))):
                with session.start_transaction():
                    for name in names:
                        live[name].insert_one({"_id": number}, session=session)
        live.users.rename("archive")
        live.old.rename("users")
        live.command({"create": "late", "viewOn": "users", "pipeline": []})
        last = shop.back_up("last", ["mongodb"], type="incremental", **only(database))
        assert (full.ok, last.ok) == (True, True), last.message
        client[target].archive.insert_one({"_id": "mine"})
        client[target].users.insert_one({"_id": "mine"})
        before = seen(client, target)

        def asked(**more: Any) -> RestoreResult:
            assert last.id is not None
            return restored(shop, last.id, targetDatabase=target, dropExisting=True, **more)

        try:
            with pytest.raises(LucidError) as refused:
                asked(collections=["old"])
            assert refused.value.reason is Reason.RESTORE_BLOCKED
            assert "holds no collection old at that moment" in refused.value.message
            planned = asked(collections=["users"], planOnly=True).plan
            assert planned is not None
            assert planned.cut_transactions == 2, "of what is called users now, and was called old"
            assert seen(client, target) == before
            assert asked(collections=["late"], planOnly=True).plan is not None, "a view that came later"
            staged = asked(collections=["users"])
            assert (staged.collections, staged.loaded_documents, staged.replayed_operations) == (1, 1, 3)
            assert seen_staged(client, target) == [{"old", 1, 2}]
        finally:
            client.drop_database(target)


def seen_staged(client: Any, target: str) -> list[frozenset[Any]]:
    """The ids in each staged collection."""
    names = [
        n for n in client[target].list_collection_names() if n.startswith("lucid_stg_") and "journal" not in n
    ]
    return [frozenset(d["_id"] for d in client[target][name].find()) for name in names]


def test_a_name_that_no_server_takes_in_the_other_database_is_refused_in_the_plan(
    mongodb: MongoDB, workshop: Callable[..., Workshop], database: str
) -> None:
    shop, target = workshop(MONGODB_URI=mongodb.uri), f"{database}_longer"
    with mongodb.client() as client:
        live, name = client[database], "n" * (255 - len(database) - 1)
        live.a.insert_one({"_id": 1})
        live[name].insert_one({"_id": 1})
        backup = shop.back_up("full", ["mongodb"], **only(database))
        assert backup.id is not None
        with pytest.raises(LucidError) as refused:
            restored(shop, backup.id, targetDatabase=target, planOnly=True)
        assert refused.value.reason is Reason.RESTORE_BLOCKED
        assert "262 bytes" in refused.value.message
        for fits in ({"targetDatabase": target, "collections": ["a"]}, {"dropExisting": True}):
            assert restored(shop, backup.id, planOnly=True, **fits).plan is not None


def test_a_database_that_the_server_takes_for_another_ones_is_told_in_the_plan(
    mongodb: MongoDB, workshop: Callable[..., Workshop], database: str
) -> None:
    shop = workshop(MONGODB_URI=mongodb.uri)
    with mongodb.client() as client:
        client[database].users.insert_one({"_id": 1})
        full = shop.back_up("full", ["mongodb"], **only(database))
    assert full.id is not None
    planned = restored(shop, full.id, targetDatabase=database.upper(), planOnly=True).plan
    assert planned is not None
    assert planned.blocked_reason is Reason.RESTORE_BLOCKED
    assert f"There is a database {database}" in (planned.blocked_by or "")
