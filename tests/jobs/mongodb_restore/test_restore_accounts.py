"""Users and roles (rule 2.11): merged last, none is changed or dropped, and some are never brought back."""

from collections.abc import Callable
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from test_restore_worker import restore, swap
from workshop import Workshop, only

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.mongodb.restore.accounts import ROLES, USERS, VERSION, Accounts, Present, choose
from lucid_storage.stores.mongodb.restore.adapter import MongoRestores
from testbed.stores.mongodb import MongoDB


def accounts(*, users: list[dict[str, Any]], roles: list[dict[str, Any]] = [], schema: int = 5) -> Accounts:  # noqa: B006
    found = Accounts()
    found.add(USERS, [bson.encode(one) for one in users])
    found.add(ROLES, [bson.encode(one) for one in roles])
    found.add(VERSION, [bson.encode({"_id": "authSchema", "currentVersion": schema})])
    return found


def granted(name: str, *roles: str) -> dict[str, Any]:
    pairs = (role.split(".") for role in roles)
    return {"_id": name, "roles": [{"db": db, "role": role} for db, role in pairs]}


NOBODY = Present(frozenset(), frozenset(), frozenset())


def ids(documents: tuple[RawBSONDocument, ...]) -> list[Any]:
    return [one["_id"] for one in documents]


def test_the_own_login_root_and_what_is_there_are_left_alone() -> None:
    held = accounts(
        users=[
            granted("shop.alice", "shop.readWrite"),
            granted("admin.operator", "admin.ours"),
            granted("admin.chief", "admin.root"),
            granted("admin.hidden", "admin.inner"),
            granted("shop.bob", "shop.read"),
        ],
        roles=[
            granted("admin.ours"),
            granted("admin.outer", "admin.root"),
            granted("admin.inner", "admin.outer"),
            granted("shop.clerk", "shop.read"),
        ],
    )
    there = Present(
        users=frozenset({"shop.bob"}), roles=frozenset(), own=frozenset({"admin.operator", "admin.ours"})
    )
    chosen = choose(held, there)
    assert ids(chosen.users) == ["shop.alice"]
    assert ids(chosen.roles) == ["shop.clerk"]
    assert chosen.skipped == (
        "role admin.ours belongs to the operator's own login",
        "role admin.outer has all rights of root, or could take them",
        "role admin.inner has all rights of root, or could take them",
        "user admin.operator belongs to the operator's own login",
        "user admin.chief has all rights of root, or could take them",
        "user admin.hidden has all rights of root, or could take them",
        "user shop.bob is there already",
    )


@pytest.mark.parametrize(
    "role",
    [
        "admin.__system",
        "admin.userAdminAnyDatabase",
        "admin.restore",
        "admin.userAdmin",
        "admin.dbOwner",
    ],
)
def test_built_in_roles_that_can_give_root_do_not_come_back(role: str) -> None:
    chosen = choose(accounts(users=[granted("shop.a", role)]), NOBODY)
    assert chosen.users == ()
    assert chosen.skipped == ("user shop.a has all rights of root, or could take them",)


@pytest.mark.parametrize(
    ("resource", "action"),
    [
        ({"anyResource": True}, "anyAction"),
        ({"anyResource": True}, "update"),
        ({"cluster": True}, "internal"),
        ({"cluster": True}, "grantRole"),
        ({"db": "admin", "collection": ""}, "grantRole"),
        ({"db": "", "collection": ""}, "createUser"),
        ({"db": "admin", "collection": ""}, "changePassword"),
        ({"db": "admin", "collection": "system.users"}, "insert"),
        ({"db": "", "collection": "system.roles"}, "update"),
    ],
)
def test_privileges_that_can_give_root_do_not_come_back(resource: dict[str, Any], action: str) -> None:
    """Nor does who holds a role that inherits them."""
    privileged = granted("shop.outer") | {"privileges": [{"resource": resource, "actions": ["find", action]}]}
    held = accounts(
        users=[granted("shop.a", "shop.inner")], roles=[privileged, granted("shop.inner", "shop.outer")]
    )
    chosen = choose(held, NOBODY)
    assert (chosen.users, chosen.roles) == ((), ())


@pytest.mark.parametrize(
    ("resource", "action"),
    [
        ({"db": "shop", "collection": ""}, "grantRole"),
        ({"db": "", "collection": ""}, "insert"),
        ({"db": "admin", "collection": "notes"}, "insert"),
        ({"cluster": True}, "serverStatus"),
    ],
)
def test_rights_over_some_data_do_come_back(resource: dict[str, Any], action: str) -> None:
    role = granted("shop.r", "shop.userAdmin") | {"privileges": [{"resource": resource, "actions": [action]}]}
    chosen = choose(accounts(users=[granted("shop.a", "shop.r", "shop.dbOwner")], roles=[role]), NOBODY)
    assert (ids(chosen.users), ids(chosen.roles)) == (["shop.a"], ["shop.r"])


def test_users_of_an_old_form_are_refused() -> None:
    with pytest.raises(LucidError) as refused:
        choose(accounts(users=[granted("a.b")], schema=3), Present(frozenset(), frozenset(), frozenset()))
    assert refused.value.reason is Reason.NOT_SUPPORTED


def login(server: MongoDB, user: str, password: str) -> bool:
    with MongoClient[Any](server.uri_for(user, password)) as client:
        try:
            client.shop.command("ping")
            client.shop.a.find_one()
        except OperationFailure as error:
            if error.code == 18:
                return False
            raise
    return True


@pytest.mark.mongodb
async def test_users_and_roles_come_back_after_the_swap_and_nobody_changes(
    private_mongodb: Callable[..., MongoDB], workshop: Callable[..., Workshop]
) -> None:
    server = private_mongodb(auth=True)
    shop = workshop(MONGODB_URI=server.uri)
    with server.client() as client:
        client.shop.a.insert_one({"_id": 1})
        read = {"resource": {"db": "shop", "collection": ""}, "actions": ["find"]}
        client.admin.command({"createRole": "clerk", "privileges": [read], "roles": []})
        server.create_user("alice", "of the backup", [("clerk", "admin")])
        server.create_user("bob", "of the backup", [("clerk", "admin")])
        full = shop.back_up("full", ["mongodb"])
        partly = shop.back_up("partly", ["mongodb"], chain="other", **only("shop"))
        client.admin.command({"dropUser": "alice"})
        client.admin.command({"dropRole": "clerk"})
        client.admin.command({"updateUser": "bob", "pwd": "newer", "roles": [{"role": "read", "db": "shop"}]})
        server.create_user("carol", "newer", [("read", "shop")])
        refused = restore(shop, partly.id, chain="other", usersAndRoles=True, planOnly=True)
        assert (refused.ok, refused.reason) == (False, Reason.RESTORE_BLOCKED)
        told = restore(shop, full.id, dropExisting=True, usersAndRoles=True)
        assert told.ok, told.message
        assert set(told.skipped_users) == {
            "user admin.root belongs to the operator's own login",
            "user admin.bob is there already",
        }
        assert not login(server, "alice", "of the backup"), "nothing before the swap"
        await swap(server.uri, told)
        assert login(server, "alice", "of the backup")
        assert login(server, "bob", "newer")
        assert login(server, "carol", "newer")
        assert not [n for n in client.admin.list_collection_names() if n.startswith("lucid_")]

        # An operator that died right before it closed the journal does the last step again.
        journals = client.shop["lucid_stg_journal"]
        journals.update_one({"_id": told.run}, {"$set": {"state": "swapping"}})
        await swap(server.uri, told)
        assert login(server, "alice", "of the backup")
        assert login(server, "bob", "newer")

        # The rights that docs/privileges.md names are enough.
        replaying = {"resource": {"cluster": True}, "actions": ["applyOps"]}
        client.admin.command({"createRole": "lucidRestore", "privileges": [replaying], "roles": []})
        own = [("readWrite", "shop"), ("dbAdmin", "shop"), ("lucidRestore", "admin")]
        server.create_user("mover", "m", own)
        shop.environ["MONGODB_URI"] = server.uri_for("mover", "m")
        lacking = restore(shop, full.id, dropExisting=True, usersAndRoles=True, allowUnknownSpace=True)
        assert (lacking.ok, lacking.reason) == (False, Reason.ACCESS_DENIED)
        granted_too = [{"role": role, "db": "admin"} for role in ("restore", "readWrite")]
        client.admin.command({"grantRolesToUser": "mover", "roles": granted_too})
        client.admin.command({"dropUser": "alice"})
        told = restore(shop, full.id, dropExisting=True, usersAndRoles=True, allowUnknownSpace=True)
        assert told.ok, told.message
        await swap(shop.environ["MONGODB_URI"], told)
        assert login(server, "alice", "of the backup")

        given_up = restore(shop, full.id, dropExisting=True, usersAndRoles=True, allowUnknownSpace=True)
        assert given_up.ok
        port = MongoRestores(server.uri, label="MongoDB", app_name="lucid-test", guard=lambda: None)
        assert await port.discard(given_up.run, given_up.databases)
        await port.close()
        assert not [n for n in client.admin.list_collection_names() if n.startswith("lucid_")]
