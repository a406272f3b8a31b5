"""What status, conditions and metrics say of a sharded collection, and when."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sharded_builder import (
    NOW,
    REGION,
    SESSION,
    balancer,
    desired,
    planned,
    settled,
    sharded,
    spread,
    state,
    status,
)

from lucid_storage.kinds.shardedcollection import backup_needed, neighbours
from lucid_storage.kinds.shardedcollection.metrics import ShardMetrics
from lucid_storage.kinds.shardedcollection.observed import Neighbours
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.meta import BACKED_UP_AT
from lucid_storage.models.shardedcollection import ShardedCollectionStatus

REFINED = (("region", 1), ("order_id", 1))
BALANCER = ("enabled", "running", "rounds")


def resource(plural: str, name: str, created: str = "2026-11-21T10:00:00Z", **body: Any) -> Resource:
    metadata = {
        "name": name,
        "namespace": "lucid",
        "uid": f"{plural}-{name}",
        "creationTimestamp": created,
        **body.pop("metadata", {}),
    }
    return Resource.from_body(plural, {"metadata": metadata, **body})


def backup(
    started: datetime, *, phase: str = "Completed", kind: str = "full", server: str = "cluster-1", **spec: Any
) -> Resource:
    told = {"phase": phase, "type": kind, "serverIdentity": server, "startedAt": started.isoformat()}
    return resource("backups", "b", spec=spec, status=told)


# Figures


def test_status_tells_what_lies_on_each_shard() -> None:
    made = planned(desired(), sharded(spread=spread(3, 1)), settled())
    told = made.status.to_dict()
    assert told["shards"] == [
        {"name": "s0", "chunks": 3, "jumboChunks": 0, "documents": 300, "sizeBytes": 15000},
        {"name": "s1", "chunks": 1, "jumboChunks": 0, "documents": 100, "sizeBytes": 5000},
    ]
    assert (told["shardCount"], told["chunks"], told["balanced"]) == (2, 4, "True")
    assert told["balancer"] == {"enabled": True, "running": False, "rounds": 3}


def test_a_figure_that_moves_a_little_or_too_early_is_no_write() -> None:
    first = planned(desired(), sharded(spread=spread(20, 20)), settled()).status
    soon = planned(desired(), sharded(spread=spread(39, 1)), first, now=NOW + timedelta(minutes=5)).status
    assert soon == first
    little = planned(desired(), sharded(spread=spread(21, 20)), first, now=NOW + timedelta(hours=1)).status
    assert little == first
    moved = planned(desired(), sharded(spread=spread(30, 20)), first, now=NOW + timedelta(hours=1)).status
    assert moved.chunks == 50


def test_a_change_of_state_is_told_at_once() -> None:
    first = planned(desired(), sharded(spread=spread(20, 20)), settled()).status
    seen = sharded(spread=spread(38, 2, compliant=False))
    soon = planned(desired(), seen, first, now=NOW + timedelta(seconds=5)).status
    assert (soon.balanced, soon.chunks) == ("False", 40)
    emptied = planned(desired(), sharded(spread=spread(40, 0)), first, now=NOW + timedelta(seconds=5)).status
    assert emptied.shard_count == 1


def test_rounds_of_the_balancer_move_as_rarely_as_other_figures() -> None:
    lies = replace(spread(), balancer=balancer(rounds=100))
    first = planned(desired(), sharded(spread=lies), settled()).status

    def then(rounds: int, minutes: int, *, figures: bool = True) -> ShardedCollectionStatus:
        seen = replace(spread(figures=figures), balancer=balancer(rounds=rounds, running=True))
        now = NOW + timedelta(minutes=minutes)
        return planned(desired(), sharded(spread=seen), first, now=now).status

    assert then(900, 14) == first, "too early"
    assert then(109, 60) == first, "too little"
    assert then(900, 16, figures=False) == first, "documents and bytes would wait as long again"
    told = then(110, 16).balancer
    assert told is not None
    assert (told.rounds, told.running) == (110, True)
    elected = then(0, 60).balancer
    assert elected is not None
    assert elected.rounds == 0, "another config server counts anew"


def test_documents_stay_where_they_were_not_asked_for() -> None:
    first = planned(desired(), sharded(), settled()).status
    seen = sharded(spread=spread(2, 2, compliant=False, figures=False))
    then = planned(desired(), seen, first).status
    assert [one.documents for one in then.shards or ()] == [200, 200]


@pytest.mark.parametrize(
    ("balancing", "enabled", "compliant", "word"),
    [
        (True, True, True, "True"),
        (True, True, False, "False"),
        (False, True, False, "Off"),
        (True, False, True, "Off"),
    ],
)
def test_balanced_is_a_word_that_says_who_balances(
    balancing: bool, enabled: bool, compliant: bool, word: str
) -> None:
    lies = spread(compliant=compliant)
    lies = type(lies)(lies.chunks, lies.balance, balancer(enabled=enabled), lies.figures)
    held = state()
    held = type(held)("shop", "orders", held.uuid, REGION, unique=False, balancing=balancing)
    assert planned(desired(), sharded(state=held, spread=lies), settled()).status.balanced == word


def test_jumbo_chunks_are_said_beside_ready() -> None:
    made = planned(desired(), sharded(spread=spread(4, 4, jumbo=2)), settled())
    assert made.status.jumbo_chunks == 2
    assert made.message.startswith("2 chunks are too big to be moved")


def test_the_first_jumbo_chunk_and_the_end_of_all_are_told_at_once_and_their_number_rarely() -> None:
    first = planned(desired(), sharded(), settled())
    assert (first.status.jumbo_chunks, first.message) == (0, "")
    soon = NOW + timedelta(seconds=5)
    one = planned(desired(), sharded(spread=spread(jumbo=1, figures=False)), first.status, now=soon)
    assert one.status.jumbo_chunks == 1
    assert one.message.startswith("1 chunk is too big to be moved")
    two = planned(desired(), sharded(spread=spread(jumbo=2, figures=False)), one.status, now=soon)
    assert (two.status, two.message) == (one.status, one.message), "no write for each chunk"
    none = planned(desired(), sharded(spread=spread(figures=False)), two.status, now=soon)
    assert (none.status.jumbo_chunks, none.message) == (0, "")


def test_metrics_name_the_resource_and_end_with_it() -> None:
    registry = CollectorRegistry()
    metrics = ShardMetrics(registry)
    key = Key("shardedcollections", "lucid", "orders")
    labels = {"resource_namespace": "lucid", "sharded_collection": "orders"}
    metrics.tell(key, state(), spread(3, 1))
    metrics.tell(key, replace(state(), resharding=True), spread(4, 1, figures=False), backup_needed=True)
    value = registry.get_sample_value
    assert value("lucid_sharded_collection_resharding", labels) == 1
    assert value("lucid_sharded_collection_backup_needed", labels) == 1
    assert value("lucid_sharded_collection_chunks", {**labels, "shard": "s0"}) == 4
    assert value("lucid_sharded_collection_documents", {**labels, "shard": "s0"}) == 300
    assert value("lucid_sharded_collection_balanced", labels) == 1
    busy = balancer(enabled=False, running=True, rounds=7)
    metrics.tell(key, state(), replace(spread(), balancer=busy))
    told = {name: value(f"lucid_sharded_collection_balancer_{name}", labels) for name in BALANCER}
    assert told == {"enabled": 0, "running": 1, "rounds": 7}
    metrics.forget(key)
    assert value("lucid_sharded_collection_balancer_rounds", labels) is None
    assert value("lucid_sharded_collection_chunks", {**labels, "shard": "s0"}) is None


# A backup after a changed key


@pytest.mark.parametrize("operation", ["Refining", "Resharding"])
def test_a_changed_key_asks_for_a_fresh_backup(operation: str) -> None:
    made = planned(desired(REFINED), sharded(REFINED), settled(operation=operation))
    assert made.verdict is None
    assert made.status.operation is None
    assert made.status.backup_needed_since == NOW
    assert [(n.reason, n.warning) for n in made.notices] == [("ShardKeyChanged", True)]
    rows = backup_needed.conditions(made.status, [])
    assert [(kind, on) for kind, on, _, _ in rows] == [("BackupNeeded", True)]
    assert BACKED_UP_AT in rows[0][3]


def test_a_moment_within_a_second_counts_as_the_next_second() -> None:
    now = NOW + timedelta(milliseconds=200)
    made = planned(desired(REFINED), sharded(REFINED), settled(), now=now)
    assert made.status.backup_needed_since == NOW + timedelta(seconds=1)


def test_a_key_that_never_changed_has_no_such_condition() -> None:
    assert backup_needed.conditions(planned(desired(), sharded(), settled()).status, []) == []


LATER, EARLIER = NOW + timedelta(minutes=5), NOW - timedelta(minutes=5)


@pytest.mark.parametrize(
    ("made", "enough"),
    [
        (backup(LATER), True),
        (backup(EARLIER), False),
        (backup(LATER, phase="Running"), False),
        (backup(LATER, phase="Failed"), False),
        (backup(LATER, kind="incremental"), False),
        (backup(LATER, server="cluster-2"), False),
        (backup(LATER, engines=["redis"]), False),
        (backup(LATER, mongodb={"databases": ["other"]}), False),
        (backup(LATER, mongodb={"databases": ["shop"]}), True),
        (backup(LATER, mongodb={"collections": ["shop.users"]}), False),
        (backup(LATER, mongodb={"collections": ["shop.orders"]}), True),
    ],
)
def test_a_full_backup_that_began_later_is_enough(made: Resource, enough: bool) -> None:
    needed = settled(backup_needed_since=NOW)
    then = planned(desired(), sharded(neighbours=Neighbours(backups=(made,))), needed).status
    assert (then.backup_needed_since is None) is enough


@pytest.mark.parametrize(
    ("said", "enough"),
    [
        ("2026-11-21T12:05:00Z", True),
        ("2026-11-21T11:55:00Z", False),
        ("2999-01-01T00:00:00Z", False),
        ("2026-11-21T12:05:00", False),
        ("yes", False),
    ],
)
def test_somebody_can_tell_of_a_backup_made_by_other_means(said: str, enough: bool) -> None:
    needed = settled(backup_needed_since=NOW)
    then = planned(desired(), sharded(backed_up_at=said), needed, now=NOW + timedelta(minutes=6))
    assert (then.status.backup_needed_since is None) is enough
    rows = backup_needed.conditions(then.status, ["BackupNeeded"])
    assert [(kind, on) for kind, on, _, _ in rows] == [("BackupNeeded", not enough)]
    assert (then.recheck_seconds is None) is enough


# Neighbours


def test_what_others_declare_is_found_on_the_same_server_only() -> None:
    mine = resource("shardedcollections", "orders")
    mongodb = {"collection": "orders", "keys": [{"field": "region", "order": 1}]}
    zone = {"name": "europe", "shards": ["s1"], "ranges": []}
    others = {
        "collections": [
            resource("collections", "orders", spec={"capped": {"sizeBytes": 1}}),
            resource(
                "collections", "far", created="2020-01-01T00:00:00Z", status={"serverIdentity": "cluster-2"}
            ),
        ],
        "indexes": [
            resource("indexes", "fits", spec={"mongodb": mongodb}),
            resource("indexes", "sparse", spec={"mongodb": {**mongodb, "sparse": True}}),
            resource("indexes", "other", spec={"mongodb": {**mongodb, "keys": [{"field": "a", "order": 1}]}}),
        ],
        "shardedcollections": [
            mine,
            resource("shardedcollections", "users", "2026-11-21T09:00:00Z", spec={"zones": [zone]}),
        ],
        "backups": [],
    }
    found = neighbours.find(
        mine,
        desired(zones=[{**zone, "ranges": [{"min": {"region": 1}, "max": {"region": 2}}]}]),
        "cluster-1",
        known=lambda plural: others[plural],
        about=lambda plural, target: others[plural] if target == "shop.orders" else [],
        reaches=lambda other: True,
    )
    assert found.collection is not None
    assert (found.collection.declared_by, found.collection.capped) == ("lucid/orders", True)
    assert found.indexes == ("lucid/fits",)
    assert [(z.name, z.shards, z.older) for z in found.zones] == [("europe", frozenset({"s1"}), True)]


@pytest.mark.parametrize(
    ("namespace", "connection", "found"),
    [
        ("lucid", None, True),
        ("lucid", {"secretName": "s"}, True),
        ("other", None, True),
        ("other", {"secretName": "s"}, False),
    ],
)
def test_what_never_logged_in_with_another_tenants_credentials_keeps_nobody_waiting(
    namespace: str, connection: dict[str, str] | None, found: bool
) -> None:
    mine = resource("shardedcollections", "orders")
    spec = {"collection": "orders"} | ({"connection": connection} if connection else {})
    theirs = resource("collections", "orders", metadata={"namespace": namespace}, spec=spec)
    near = neighbours.find(
        mine,
        desired(),
        "cluster-1",
        known=lambda plural: [],
        about=lambda plural, target: [theirs] if plural == "collections" else [],
        reaches=lambda other: True,
    )
    assert (near.collection is not None) is found


def test_all_that_is_told_has_room_in_status() -> None:
    made = planned(desired(SESSION), sharded(SESSION), status())
    ShardedCollectionStatus.model_validate(made.status.to_dict())
