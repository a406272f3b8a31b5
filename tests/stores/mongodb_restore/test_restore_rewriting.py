"""Replay by default-deny (rule 2.4): what is sent, under which name, and what never is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oplog_entries import (
    Replaying,
    apply_ops,
    collection,
    command,
    create,
    delete,
    drop,
    insert,
    op,
    rename,
    uid,
    update,
)

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.mongodb.restore.catalog import Place, View
from lucid_storage.stores.mongodb.restore.rewriting import CreateStaged, DropStaged, ResizeStaged, Write

ORDERS = collection("shop.orders")


def test_writes_go_to_the_staged_collection_without_uuid_and_session() -> None:
    replay = Replaying(ORDERS)
    staged = "shop.lucid_stg_r1_1"
    assert replay.writes(200, insert("shop.orders", 1, total=5)) == [
        {"op": "i", "ns": staged, "o": {"_id": 1, "total": 5}}
    ]
    assert replay.writes(201, update("shop.orders", 1, total=6)) == [
        {"op": "u", "ns": staged, "o": {"$v": 2, "diff": {"u": {"total": 6}}}, "o2": {"_id": 1}}
    ]
    assert replay.writes(202, delete("shop.orders", 1)) == [{"op": "d", "ns": staged, "o": {"_id": 1}}]


def test_another_target_database_gets_the_writes() -> None:
    replay = Replaying(ORDERS, targets={"shop": "copy"})
    assert replay.writes(200, insert("shop.orders", 1))[0]["ns"] == "copy.lucid_stg_r1_1"


@pytest.mark.parametrize(
    "namespace",
    [
        "bank.accounts",
        "shop.system.profile",
        "shop.lucid_stg_other_1",
        "shop.lucid_old_x_1",
        "admin.system.users",
    ],
)
def test_a_namespace_outside_the_map_is_not_sent(namespace: str) -> None:
    replay = Replaying(ORDERS)
    for operation in (
        insert(namespace, 1),
        update(namespace, 1, a=1),
        delete(namespace, 1),
        create(namespace),
        drop(namespace),
    ):
        assert replay.feed(200, operation) == []


@pytest.mark.parametrize(
    "document", [{"dropDatabase": 1}, {"startIndexBuild": "orders"}, {"abortIndexBuild": "orders"}]
)
def test_commands_that_change_no_data_are_never_sent(document: dict[str, Any]) -> None:
    assert Replaying(ORDERS).feed(200, command("shop", document, "shop.orders")) == []


def test_no_ops_are_skipped() -> None:
    assert Replaying(ORDERS).feed(200, {"op": "n", "ns": "", "o": {"msg": "periodic noop"}}) == []


@pytest.mark.parametrize(
    "operation",
    [
        command("shop", {"importCollection": "orders"}, "shop.orders"),
        command("shop", {"emptycapped": "orders"}, "shop.orders"),
        op("xi", "shop.orders", {}),
        command("shop", {"collMod": "orders", "sparkle": True}, "shop.orders"),
        command("shop", {"collMod": "orders", "index": {"name": "a", "glitter": 1}}, "shop.orders"),
    ],
    ids=["command", "emptycapped", "kind", "collMod", "index"],
)
def test_what_is_not_known_fails(operation: dict[str, Any]) -> None:
    replay = Replaying(collection("shop.orders", indexes=[{"name": "a", "key": {"a": 1}}]))
    with pytest.raises(LucidError) as failed:
        replay.feed(200, operation)
    assert failed.value.reason is Reason.REPLAY_REFUSED


def test_commands_nested_in_apply_ops_are_rewritten_too() -> None:
    replay = Replaying(ORDERS)
    steps = replay.feed(
        200,
        apply_ops([insert("shop.orders", 1), apply_ops([create("shop.new"), insert("shop.new", 2)])]),
    )
    assert [type(step) for step in steps] == [Write, CreateStaged, Write]
    assert steps[2].operation["ns"] == "shop.lucid_stg_r1_2"  # type: ignore[union-attr]


def test_an_unknown_command_nested_in_apply_ops_fails() -> None:
    with pytest.raises(LucidError):
        Replaying(ORDERS).feed(200, apply_ops([command("shop", {"importCollection": "x"}, "x")]))


def test_a_collection_made_and_dropped_by_the_oplog_comes_and_goes() -> None:
    replay = Replaying()
    (made,) = replay.feed(200, create("shop.new", capped=True, size=4096, validator={"a": 1}))
    assert isinstance(made, CreateStaged)
    assert made.options == {"capped": True, "size": 4096}  # validation comes after loading
    assert replay.feed(201, drop("shop.new")) == [DropStaged(made.tracked.place)]
    assert replay.place("shop.new") is None


def test_a_collection_dropped_and_made_anew_is_another_one() -> None:
    replay = Replaying(ORDERS)
    replay.feed(200, drop("shop.orders"))
    replay.feed(201, create("shop.orders", of="second"))
    assert replay.place("shop.orders") == "shop.lucid_stg_r1_2"


def test_a_write_to_another_incarnation_of_a_collection_fails_after_the_dump() -> None:
    with pytest.raises(LucidError):
        Replaying(ORDERS).feed(200, insert("shop.orders", 1, of="another"))


def test_a_write_to_a_collection_that_was_never_made_fails_after_the_dump() -> None:
    with pytest.raises(LucidError):
        Replaying(ORDERS).feed(200, insert("shop.unknown", 1))


def test_a_rename_moves_the_name_and_drops_what_it_replaces() -> None:
    replay = Replaying(ORDERS, collection("shop.old"))
    assert replay.feed(200, rename("shop.orders", "shop.old", dropTarget=True)) == [
        DropStaged(Place("shop", "lucid_stg_r1_2"))
    ]
    assert replay.place("shop.old") == "shop.lucid_stg_r1_1"
    assert replay.place("shop.orders") is None
    assert replay.writes(201, insert("shop.old", 1, of="shop.orders"))[0]["ns"] == "shop.lucid_stg_r1_1"


def test_a_collection_renamed_out_of_the_restored_databases_is_gone() -> None:
    replay = Replaying(ORDERS)
    (step,) = replay.feed(200, rename("shop.orders", "shop.lucid_old_x_1"))
    assert isinstance(step, DropStaged)
    assert replay.catalog.finished() == ()


def test_a_temporary_collection_counts_only_once_it_got_its_name() -> None:
    replay = Replaying()
    replay.feed(200, create("shop.tmp.agg_out.1", temp=True))
    assert replay.catalog.finished() == ()
    replay.feed(201, rename("shop.tmp.agg_out.1", "shop.report"))
    assert [tracked.name for tracked in replay.catalog.finished()] == [("shop", "report")]


def test_indexes_are_followed_and_not_sent() -> None:
    replay = Replaying(collection("shop.orders", indexes=[{"v": 2, "name": "a_1", "key": {"a": 1}}]))
    for seconds, document in enumerate(
        (
            {"createIndexes": "orders", "v": 2, "key": {"b": 1}, "name": "b_1", "unique": True},
            {
                "commitIndexBuild": "orders",
                "indexes": [
                    {"v": 2, "key": {"c": -1}, "name": "c_-1"},
                    {"v": 2, "key": {"d": 1}, "name": "d_1"},
                ],
            },
            {"dropIndexes": "orders", "index": "a_1"},
            {"collMod": "orders", "index": {"name": "c_-1", "hidden": True}},
            {"collMod": "orders", "index": {"keyPattern": {"d": 1}, "expireAfterSeconds": 60}},
        ),
        start=200,
    ):
        assert replay.feed(seconds, command("shop", document, "shop.orders")) == []
    (tracked,) = replay.catalog.finished()
    assert {
        name: (dict(index["key"]), sorted(set(index) - {"v", "key", "name"}))
        for name, index in tracked.indexes.items()
    } == {  # type: ignore[call-overload]
        "b_1": ({"b": 1}, ["unique"]),
        "c_-1": ({"c": -1}, ["hidden"]),
        "d_1": ({"d": 1}, ["expireAfterSeconds"]),
    }


def test_a_change_of_an_index_leaves_its_other_options() -> None:
    index = {"v": 2, "name": "a_1", "key": {"a": 1}, "hidden": True, "sparse": False}
    replay = Replaying(collection("shop.orders", indexes=[index]))
    change = {"collMod": "orders", "index": {"name": "a_1", "hidden": False}}
    replay.feed(200, command("shop", change, "shop.orders"))
    (tracked,) = replay.catalog.finished()
    assert tracked.indexes["a_1"] == {"v": 2, "name": "a_1", "key": {"a": 1}, "sparse": False}


def test_dropping_all_indexes_leaves_none() -> None:
    replay = Replaying(collection("shop.orders", indexes=[{"v": 2, "name": "a_1", "key": {"a": 1}}]))
    replay.feed(200, command("shop", {"dropIndexes": "orders", "index": "*"}, "shop.orders"))
    assert replay.catalog.finished()[0].indexes == {}


def test_options_are_followed_and_set_later() -> None:
    replay = Replaying(collection("shop.orders", validator={"a": {"$exists": True}}))
    change = {
        "collMod": "orders",
        "validationLevel": "moderate",
        "changeStreamPreAndPostImages": {"enabled": True},
    }
    assert replay.feed(200, command("shop", change, "shop.orders")) == []
    (tracked,) = replay.catalog.finished()
    assert sorted(tracked.later()) == ["changeStreamPreAndPostImages", "validationLevel", "validator"]
    assert tracked.creation() == {}


def test_a_capped_collection_is_resized_at_once() -> None:
    replay = Replaying(collection("shop.log", capped=True, size=4096))
    (step,) = replay.feed(200, command("shop", {"collMod": "log", "cappedSize": 8192}, "shop.log"))
    assert isinstance(step, ResizeStaged)
    assert step.command == {"cappedSize": 8192}


def test_views_are_kept_as_definitions() -> None:
    replay = Replaying(ORDERS)
    view = {"_id": "shop.big", "viewOn": "orders", "pipeline": [{"$match": {"total": {"$gt": 5}}}]}
    assert replay.feed(200, create("shop.system.views")) == []
    assert replay.feed(201, op("i", "shop.system.views", view)) == []
    assert [(found.name, found.on) for found in replay.catalog.views] == [("big", "orders")]
    replay.feed(202, op("u", "shop.system.views", {**view, "viewOn": "orders2"}, {"_id": "shop.big"}))
    assert [found.on for found in replay.catalog.views] == ["orders2"]
    replay.feed(203, op("d", "shop.system.views", {"_id": "shop.big"}))
    assert replay.catalog.views == ()


def test_views_go_with_their_database_which_says_nothing_of_each() -> None:
    replay = Replaying(ORDERS)
    for database in ("shop", "other"):
        replay.catalog.put_view(View(database, "big", "orders", ()))
    replay.feed(200, drop("shop.orders"))
    replay.feed(201, command("shop", {"dropDatabase": 1}, "shop"))
    assert [view.database for view in replay.catalog.views] == ["other"]


def test_a_time_series_is_written_under_its_own_name() -> None:
    replay = Replaying()
    replay.feed(200, create("shop.system.buckets.ts", timeseries={"timeField": "t"}, expireAfterSeconds=60))
    replay.feed(
        201, op("i", "shop.system.views", {"_id": "shop.ts", "viewOn": "system.buckets.ts", "pipeline": []})
    )
    assert replay.catalog.views == ()
    assert replay.place("shop.system.buckets.ts") == "shop.system.buckets.ts"
    assert replay.writes(202, insert("shop.system.buckets.ts", 1))[0]["ns"] == "shop.system.buckets.ts"


class TestDuringTheDump:
    """Up to its end the dump may already hold an operation's result."""

    def test_a_collection_that_the_dump_listed_is_not_made_again(self) -> None:
        replay = Replaying(ORDERS)
        assert replay.feed(90, create("shop.orders")) == []
        assert replay.place("shop.orders") == "shop.lucid_stg_r1_1"

    def test_a_collection_made_after_the_listing_is_made(self) -> None:
        (step,) = Replaying(ORDERS).feed(90, create("shop.late"))
        assert isinstance(step, CreateStaged)

    def test_operations_on_an_earlier_incarnation_are_passed_over(self) -> None:
        replay = Replaying(ORDERS)
        assert replay.feed(90, insert("shop.orders", 1, of="earlier")) == []
        assert replay.feed(91, drop("shop.orders", of="earlier")) == []
        assert replay.place("shop.orders") == "shop.lucid_stg_r1_1"

    def test_a_rename_that_the_dump_saw_is_not_done_again(self) -> None:
        replay = Replaying(collection("shop.new", of="shop.old"))
        assert replay.feed(90, rename("shop.old", "shop.new")) == []
        assert replay.place("shop.new") == "shop.lucid_stg_r1_1"

    def test_writes_are_lenient_up_to_its_end_and_strict_afterwards(self) -> None:
        replay = Replaying(ORDERS)
        (during,), (after,) = (
            replay.feed(100, update("shop.orders", 1, a=1), 0),
            replay.feed(101, update("shop.orders", 1, a=1)),
        )
        assert isinstance(during, Write)
        assert isinstance(after, Write)
        assert (during.lenient, after.lenient) == (True, False)


def test_what_was_replayed_is_counted_by_namespace() -> None:
    replay = Replaying(ORDERS)
    replay.feed(
        200, apply_ops([insert("shop.orders", 1), insert("bank.accounts", 1), delete("shop.orders", 1)], 1)
    )
    replay.feed(201, update("shop.orders", 2, a=1))
    tally = replay.rewriter.done.by_namespace["shop.orders"]
    assert (tally.inserts, tally.updates, tally.deletes, tally.commands) == (1, 1, 1, 0)
    assert replay.rewriter.done.operations == 3
    assert (replay.rewriter.done.transactions, replay.rewriter.done.cut_transactions) == (1, 1)


names = st.sampled_from(
    ["shop.a", "shop.b", "bank.a", "shop.system.profile", "shop.lucid_old_z_1", "config.x"]
)
operations = st.one_of(
    st.builds(insert, names, st.integers(0, 5)),
    st.builds(lambda n, k: update(n, k, a=1), names, st.integers(0, 5)),
    st.builds(delete, names, st.integers(0, 5)),
    st.builds(create, names),
    st.builds(drop, names),
    st.builds(rename, names, names),
    st.builds(lambda n: command(n.partition(".")[0], {"dropDatabase": 1}, n), names),
)


@given(
    st.lists(st.one_of(operations, st.builds(lambda ops: apply_ops(ops), st.lists(operations, max_size=4))))
)
def test_nothing_but_names_of_the_run_is_ever_sent(entries: list[dict[str, Any]]) -> None:
    replay = Replaying(collection("shop.a"), collection("shop.b"))
    for seconds, operation in enumerate(entries, start=200):
        try:
            steps = replay.feed(seconds, operation)
        except LucidError as error:
            assert error.reason is Reason.REPLAY_REFUSED
            return
        for step in steps:
            place = step.tracked.place if isinstance(step, CreateStaged) else step.place
            assert place.namespace.startswith("shop.lucid_stg_r1_")
            if isinstance(step, Write):
                assert step.operation["ns"] == place.namespace
                assert set(step.operation) <= {"op", "ns", "o", "o2"}


def test_the_uuid_of_the_base_is_followed() -> None:
    assert Replaying(ORDERS).catalog.finished()[0].uuid == uid("shop.orders")
