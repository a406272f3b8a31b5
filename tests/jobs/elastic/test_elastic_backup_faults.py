"""What goes wrong with a real server: it stops, it is busy, it forgets, it refuses."""

import json
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from jobs.elastic.elastic_bed import Bed, Readable
from lucid_storage.errors import LucidError, Reason, StoreUnavailableError
from lucid_storage.jobs.elastic_backup import check
from lucid_storage.jobs.elastic_restore import prove, restore
from lucid_storage.models.backup import ElasticMethod, ElasticSelection
from lucid_storage.stores.elasticsearch.backup import bulk, http, points
from testbed.pytest_stores import private
from testbed.stores.elasticsearch import Elasticsearch, _password_hash
from testbed.testrun import TestRun

pytestmark = [pytest.mark.elasticsearch, pytest.mark.slow]

Private = Callable[..., Elasticsearch]


def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.fixture(scope="module")
def small_server(testbed_run: TestRun) -> Iterator[Elasticsearch]:
    """One that is soon overloaded, and that these tests may stop."""
    settings = {"indexing_pressure.memory.limit": "400kb", "http.max_content_length": "700kb"}
    for make in private(testbed_run, Elasticsearch, "elasticsearch"):
        yield make(settings=settings)


@pytest.fixture
def own(small_server: Elasticsearch) -> Bed:
    if not small_server.running():
        small_server.start()
    return Bed(small_server, f"own-{uuid.uuid4().hex[:8]}-")


def filled(bed: Bed, documents: int) -> str:
    index = bed.index("one")
    for begin in range(0, documents, 1000):
        bed.fill(index, 1000, start=begin)
    return index


async def test_a_busy_server_is_waited_for_and_given_smaller_batches(
    bed: Bed, own: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(own, 6_000)
    backup = own.back_up()
    done = restore(own.restore_run(backup, rename_to="{index}-copy", compare_hashes=True))
    assert done.documents == 6_000
    (node,) = own.call("GET", "/_nodes/stats/indexing_pressure")["nodes"].values()
    assert node["indexing_pressure"]["memory"]["total"]["coordinating_rejections"] > 0
    large = bed.index("large")
    monkeypatch.setattr(bulk, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(http, "PATIENCE_SECONDS", 1.0)
    bed.put(large, "1", json.dumps({"a": "x" * 500_000}))
    beyond = bed.back_up(ElasticSelection(indices=[large]))
    with pytest.raises(StoreUnavailableError):
        restore(own.restore_run(beyond, rename_to="{index}-copy"))
    assert not own.exists(f"{large}-copy")


async def test_what_the_server_has_no_room_for_is_not_the_backups_fault(own: Bed) -> None:
    own.put(own.index("one"), "1", "{}")
    backup = own.back_up()
    most = "cluster.max_shards_per_node"
    own.call("PUT", "/_cluster/settings", {"persistent": {most: 1}})
    try:
        with pytest.raises(LucidError, match="maximum") as failed:
            prove(own.restore_run(backup))
        assert failed.value.reason is Reason.SERVER_REFUSED
    finally:
        own.call("PUT", "/_cluster/settings", {"persistent": {most: None}})


async def test_a_server_that_stops_in_the_middle_leaves_no_backup_and_no_harm(
    own: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(http, "_PAUSES", (0.1,))
    index = filled(own, 6_000)
    whole = own.back_up()
    run = own.restore_run(whole, drop_existing=True)
    run.report = lambda _size, _documents: own.server.kill() if own.server.running() else None
    with pytest.raises(StoreUnavailableError):
        restore(run)
    own.server.start()
    until(lambda: own.count(index) == 6_000, "the index after the restart")
    assert own.indices() == {index, f"{index}-r-{run.run}"}
    done = restore(own.restore_run(whole, drop_existing=True, run="next"))
    assert f"{index}-r-{run.run}, left by an earlier run, was removed." in done.notes
    assert own.indices() == {f"{index}-r-next"}
    assert own.count(index) == 6_000

    def kill(size: int) -> None:
        if size > 100_000 and own.server.running():
            own.server.kill()

    own.before_write = kill
    with pytest.raises(StoreUnavailableError):
        own.back_up()
    assert own.sink is not None
    assert own.sink.aborted


async def test_a_point_in_time_that_expires_fails_the_export(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "KEEP", "500ms")
    index = bed.index("one")
    bed.fill(index, 30_000)

    def contexts() -> int:
        found = bed.call("GET", f"/{index}/_stats/search")["_all"]["primaries"]["search"]
        return int(found["open_contexts"])

    bed.before_write = lambda size: until(lambda: not contexts(), "the end") if size > 1_000_000 else None
    with pytest.raises(LucidError, match="point in time") as failed:
        bed.back_up()
    assert failed.value.reason is Reason.STORE_UNAVAILABLE
    assert bed.sink is not None
    assert bed.sink.aborted


def role(server: Elasticsearch, cluster: str, indices: str, names: str = "mine-*,lucid_stg_*") -> None:
    """Gives the login `worker` these privileges; the server reads the files within seconds."""
    text = f"worker:\n  cluster: [{cluster}]\n"
    if indices:
        quoted = ", ".join(f'"{name}"' for name in names.split(","))
        text += f"  indices:\n    - names: [{quoted}]\n      privileges: [{indices}]\n"
    (server._configuration / "roles.yml").write_text(text)


def fails(reason: Reason, call: Callable[[], object]) -> Callable[[], bool]:
    """Whether it fails for that reason by now."""

    def look() -> bool:
        try:
            call()
        except LucidError as error:
            return error.reason is reason
        return False

    return look


def works(call: Callable[[], object]) -> Callable[[], bool]:
    """Whether it works by now."""

    def look() -> bool:
        try:
            call()
        except LucidError as error:
            assert error.reason is Reason.ACCESS_DENIED, error.message
            return False
        return True

    return look


READ = "read, view_index_metadata, monitor, maintenance"
WRITE = f"{READ}, create_index, index, manage"


async def test_what_a_login_needs_and_what_it_is_told_without(private_elasticsearch: Private) -> None:
    server = private_elasticsearch(security=True)
    bed = Bed(server, "mine-")
    host = f"127.0.0.1:{server.port}"
    bed.fill(bed.index("one"), 100)
    bed.fill(bed.index("two"), 100)
    bed.call("PUT", "/other", {})
    template = {"index_patterns": ["mine-*"], "template": {}}
    bed.call("PUT", "/_index_template/mine", template)
    role(server, "monitor", "read, view_index_metadata, monitor")
    users = server._configuration / "users"
    users.write_text(users.read_text() + f"worker:{_password_hash('long-enough')}\n")
    with (server._configuration / "users_roles").open("a") as roles:
        roles.write("worker:worker\n")

    bed.url = f"http://worker:wrong@{host}"
    with pytest.raises(LucidError) as refused:
        bed.back_up()
    assert refused.value.reason is Reason.LOGIN_FAILED
    assert "wrong" not in refused.value.message

    bed.url = f"http://worker:long-enough@{host}"
    until(fails(Reason.ACCESS_DENIED, bed.back_up), "the login")
    with pytest.raises(LucidError, match="maintenance"):
        bed.back_up()

    role(server, "monitor", READ)
    until(works(bed.back_up), "the right to refresh")
    backup = bed.back_up()
    assert backup.taken.documents == 200
    assert backup.taken.notes == ()
    with pytest.raises(LucidError) as refused:
        restore(bed.restore_run(backup, drop_existing=True))
    assert refused.value.reason is Reason.ACCESS_DENIED

    role(server, "monitor, manage_index_templates", WRITE)
    until(works(lambda: restore(bed.restore_run(backup, drop_existing=True))), "the right to write")
    assert bed.back_up(ElasticSelection()).taken.notes == ()
    restore(bed.restore_run(backup, drop_existing=True, compare_hashes=True))
    assert prove(bed.restore_run(backup))[0] == 200
    assert bed.count("mine-one") == 100

    location = {"type": "fs", "settings": {"location": str(server.snapshots / "r")}}
    bed.call("PUT", "/_snapshot/r", location)
    chosen = ElasticSelection(indices=["mine-*"], method=ElasticMethod.SNAPSHOT, repository="r")
    with pytest.raises(LucidError) as refused:
        bed.back_up(chosen)
    assert refused.value.reason is Reason.ACCESS_DENIED
    role(server, "monitor, manage_index_templates, manage", WRITE)
    until(works(lambda: bed.back_up(chosen)), "the right to take snapshots")
    taken = bed.back_up(chosen)
    assert restore(bed.restore_run(taken, drop_existing=True)).documents == 200


async def test_the_oldest_supported_server_is_backed_up_and_restored(
    elasticsearch_oldest: Elasticsearch,
) -> None:
    name = f"old-{uuid.uuid4().hex[:12]}"
    bed = Bed(elasticsearch_oldest, f"{name}-")
    strict = {"type": "object", "dynamic": "strict"}
    index = bed.index(
        "one",
        {
            "settings": {"number_of_replicas": 0},
            "mappings": {"dynamic": False, "properties": {"n": {"type": "integer"}, "closed": strict}},
        },
    )
    strange = '{ "n":1.0,\n "big":123456789012345678901234567890,"inner":[{"sort":[1],"_source":{}}] }'
    bed.put(index, "strange", strange, "routing=r")
    bed.fill(index, 12_000)
    backup = bed.back_up()
    check(Readable(backup.data), backup.manifest())
    assert prove(bed.restore_run(backup))[0] == 12_001
    restore(bed.restore_run(backup, drop_existing=True, compare_hashes=True))
    assert bed.source(index, "strange", "routing=r") == strange.encode()
    (restored,) = bed.call("GET", f"/{index}/_mapping").values()
    assert restored["mappings"]["properties"]["closed"] == strict
    location = {"type": "fs", "settings": {"location": str(bed.server.snapshots / name)}}
    bed.call("PUT", f"/_snapshot/{name}", location)
    snapshot = ElasticSelection(indices=[f"{name}-*"], method=ElasticMethod.SNAPSHOT, repository=name)
    taken = bed.back_up(snapshot)
    (real,) = bed.call("GET", f"/{index}")
    bed.call("DELETE", f"/{real}")
    restore(bed.restore_run(taken))
    assert bed.count(index) == 12_001
    templates = [one["name"] for one in bed.call("GET", "/_index_template")["index_templates"]]
    assert not [name for name in templates if name.startswith("lucid-restore-")]
