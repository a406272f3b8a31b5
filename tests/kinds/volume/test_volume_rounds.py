"""Rounds to kubelets and readers: who is asked, what counts, and who is told."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar, cast

import pytest
from volume_builders import LATER, NOW, claim, figures, node, persistent_volume, pod, seen, settled, volume

from lucid_storage.errors import AccessDeniedError, LucidError
from lucid_storage.kinds.volume.book import UsageBook
from lucid_storage.kinds.volume.kind import shared_disk
from lucid_storage.kinds.volume.reading import SOURCE, UsageReading, due, figures_of, where
from lucid_storage.kinds.volume.rounds import UsageRounds, news
from lucid_storage.kinds.volume.surroundings import Surroundings
from lucid_storage.kinds.workers.launch import WorkerRequest
from lucid_storage.kinds.workers.launch import Workers as WorkersPort
from lucid_storage.kinds.workers.state import ABSENT, WorkerPhase, WorkerState
from lucid_storage.kube.claims import Claim, Claims, Node, PersistentVolume, PodUse
from lucid_storage.kube.client import KubeApiError
from lucid_storage.kube.kubelet import ClaimFigures, KubeletError, Kubelets
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.quantity import to_bytes
from lucid_storage.models.settings import Settings

CLAIM = ("lucid", "chunks")
HOUR = timedelta(hours=1)


class Cluster:
    """Nodes, and what their kubelets say; counts who was asked."""

    def __init__(self, **told: list[ClaimFigures] | KubeletError) -> None:
        self.told = told
        self.asked: list[str] = []
        self.at_once = 0
        self.most = 0
        self.away: set[str] = set()
        self.was_asked = asyncio.Event()

    async def nodes(self) -> list[Node]:
        return [node(name, ready=name not in self.away) for name in self.told]

    async def figures(self, one: Node) -> list[ClaimFigures]:
        self.asked.append(one.name)
        self.was_asked.set()
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        said = self.told[one.name]
        if isinstance(said, KubeletError):
            raise said
        return said


class Told:
    """Who was told of what."""

    def __init__(self) -> None:
        self.touched: list[Key] = []
        self.nodes: list[frozenset[str]] = []
        self.failures = 0

    def failed(self) -> None:
        self.failures += 1


def used(percent: int, name: str = "chunks") -> ClaimFigures:
    one = figures(percent)
    return ClaimFigures("lucid", name, one.at, one.used, one.available, one.capacity, 1, 100)


def rounds(
    cluster: Cluster, told: Told, *volumes: Resource, asks: bool = True
) -> tuple[UsageRounds, UsageBook]:
    book = UsageBook()
    made = UsageRounds(
        cast("Claims", cluster),
        cast("Kubelets", cluster) if asks else None,
        book,
        Settings(),
        volumes=lambda: volumes,
        touch=told.touched.append,
        nodes_changed=told.nodes.append,
        failures=told.failed,
        now=lambda: NOW,
    )
    return made, book


async def test_each_node_is_asked_once_for_all_volumes() -> None:
    cluster, told = Cluster(a=[used(50), used(10, "other")], b=[]), Told()
    one = volume()
    two = replace(one, key=Key("volumes", "lucid", "other"))
    made, book = rounds(cluster, told, one, two)
    await made.round()
    assert sorted(cluster.asked) == ["a", "b"]
    assert (book.get(CLAIM) or figures(0)).percent == 50
    assert told.touched == [one.key, two.key]


async def test_without_volumes_nobody_is_asked() -> None:
    cluster = Cluster(a=[])
    made, _ = rounds(cluster, Told())
    await made.round()
    assert cluster.asked == []


async def test_without_an_authority_only_nodes_are_watched() -> None:
    cluster, told = Cluster(a=[]), Told()
    made, _ = rounds(cluster, told, volume(), asks=False)
    await made.round()
    cluster.away = {"a"}
    await made.round()
    assert cluster.asked == []
    assert told.nodes == [frozenset({"a"})]


async def test_a_node_that_was_away_before_the_first_round_is_told_in_it() -> None:
    cluster, told = Cluster(a=[], b=[]), Told()
    cluster.away = {"a"}
    made, _ = rounds(cluster, told, volume(), asks=False)
    await made.round()
    assert told.nodes == [frozenset({"a"})]


async def test_few_are_asked_at_a_time_and_one_that_fails_hinders_nobody() -> None:
    many: dict[str, Any] = {f"n{i}": [] for i in range(20)}
    cluster, told = Cluster(**{**many, "bad": KubeletError("no"), "good": [used(50)]}), Told()
    made, book = rounds(cluster, told, volume())
    await made.round()
    assert (len(cluster.asked), cluster.most, told.failures) == (22, 4, 1)
    assert book.get(CLAIM) is not None


async def test_nodes_that_are_away_are_not_asked() -> None:
    cluster = Cluster(a=[], b=[])
    cluster.away = {"b"}
    made, _ = rounds(cluster, Told(), volume())
    await made.round()
    assert cluster.asked == ["a"]


def test_figures_that_change_nothing_wake_nobody() -> None:
    resource = volume()
    status = settled(resource, seen(claim(), figures=figures(50)))
    known = replace(resource, status=status.to_dict())

    def wakes(percent: int, minutes: int) -> bool:
        at = NOW + timedelta(minutes=minutes)
        return news(known, figures(percent, at=at), Settings(), at)

    assert [wakes(51, 1), wakes(51, 20), wakes(60, 20), wakes(85, 1)] == [False, False, True, True]


def test_figures_of_a_disk_that_many_volumes_share_do_not_count() -> None:
    local = persistent_volume(source="local", capacity=to_bytes("1Gi"))
    whole = figures(50, size="100Gi")
    assert shared_disk(seen(claim(), volume=local, figures=whole))
    assert not shared_disk(seen(claim(), volume=local, figures=figures(50, size="1Gi")))
    assert not shared_disk(seen(claim(), volume=persistent_volume(), figures=whole))
    assert not shared_disk(seen(claim(), volume=local, figures=figures(50, size="100Gi", source=SOURCE)))
    book = UsageBook()
    assert book.put(CLAIM, whole)
    book.disregard_kubelet(CLAIM)
    assert (book.get(CLAIM), book.put(CLAIM, whole)) == (None, False)
    assert book.put(CLAIM, replace(whole, source=SOURCE))


def bound(**status: Any) -> Resource:
    return volume(status={"phase": "Bound", "volumeName": "pv-1", **status})


def test_a_reading_is_due_where_nobody_tells_the_use() -> None:
    fresh = figures(50, at=NOW - timedelta(minutes=5))
    told = {"usageSource": SOURCE, "statsTime": (NOW - timedelta(minutes=5)).isoformat()}
    assert due(bound(), None, None, HOUR, NOW)
    assert due(bound(), fresh, None, HOUR, NOW + LATER * 4)
    assert not due(bound(), fresh, None, HOUR, NOW)
    assert not due(bound(), None, NOW - timedelta(minutes=5), HOUR, NOW)
    assert not due(bound(**told), None, None, HOUR, NOW)
    ahead = {"usageSource": SOURCE, "statsTime": (NOW + LATER * 100).isoformat()}
    assert due(bound(**ahead), None, None, HOUR, NOW)  # a clock that was put right
    assert not due(volume(status={"phase": "Pending"}), None, None, HOUR, NOW)
    assert not due(replace(bound(), deleted="2026-11-21T12:00:00Z"), None, None, HOUR, NOW)


def test_a_reader_goes_where_the_claim_is_mounted_or_nowhere() -> None:
    shared = claim(access_modes=("ReadWriteMany",))
    single = claim(access_modes=("ReadWriteOncePod",))
    assert where(claim(), []) == ""
    assert where(claim(), [pod()]) == "node-a"
    assert where(claim(), [pod(node=None)]) is None
    assert where(claim(), [pod(), pod("b", node="node-b")]) is None
    assert where(shared, [pod(), pod("b", node="node-b")]) == ""
    assert where(single, [pod()]) is None
    assert where(claim(volume_mode="Block"), []) is None


def ended(result: str) -> WorkerState:
    return WorkerState(WorkerPhase.ENDED, result=result)


def test_a_folder_on_the_nodes_disk_is_measured_against_what_was_asked_for() -> None:
    result = '{"run":"r","ok":true,"usedBytes":8589934592,"inodesUsed":5,"takenAt":"2026-11-21T12:00:00Z"}'
    found = figures_of(ended(result), claim())
    assert (found.percent, found.capacity, found.inode_percent, found.source) == (
        80,
        to_bytes("10Gi"),
        None,
        SOURCE,
    )
    over = figures_of(ended(result), claim("4Gi"))
    assert over.percent == 100


@pytest.mark.parametrize(
    "state",
    [
        ABSENT,
        WorkerState(WorkerPhase.LOST, "its pod was evicted"),
        ended("not json"),
        ended('{"run":"r","ok":false,"message":"Some folders may not be listed."}'),
        ended('{"run":"r","ok":true,"complete":false,"takenAt":"2026-11-21T12:00:00Z"}'),
    ],
)
def test_a_reader_without_figures_is_a_sentence(state: WorkerState) -> None:
    with pytest.raises(LucidError, match=r"[A-Z].*\.$"):
        figures_of(state, claim())


async def test_trouble_in_a_round_ends_neither_the_rounds_nor_the_operator() -> None:
    class Troubled(Cluster):
        errors: ClassVar[list[Exception]] = [
            AccessDeniedError("no right"),
            KubeApiError(500, "Error", "away"),
            ValueError("a defect"),
        ]

        async def nodes(self) -> list[Node]:
            if self.errors:
                raise self.errors.pop()
            return await super().nodes()

    cluster = Troubled(a=[])
    book = UsageBook()
    made = UsageRounds(
        cast("Claims", cluster),
        cast("Kubelets", cluster),
        book,
        Settings(volume_stats_seconds=1).model_copy(update={"volume_stats_seconds": 0}),
        volumes=lambda: [volume()],
        touch=lambda key: None,
        nodes_changed=lambda names: None,
    )
    task = asyncio.ensure_future(made.run())
    async with asyncio.timeout(5):
        await cluster.was_asked.wait()
    task.cancel()


class Workers:
    """Makes no Job; says what one would have said."""

    def __init__(self, state: WorkerState | Exception) -> None:
        self._state = state
        self._stopped = 0
        self.stopped_often = asyncio.Event()

    async def cluster(self) -> str:
        return "cluster"

    async def start(self, request: WorkerRequest) -> None:
        assert request.beside

    async def state(self, *_: object, **__: object) -> WorkerState:
        if isinstance(self._state, Exception):
            raise self._state
        return self._state

    async def stop(self, *_: object, **__: object) -> None:
        self._stopped += 1
        if self._stopped == 3:
            self.stopped_often.set()


class OneClaim:
    """A claim that nobody uses."""

    async def get(self, namespace: str, name: str) -> Claim:
        return claim()

    async def volume(self, name: str) -> PersistentVolume:
        return persistent_volume(source="local")

    async def pods(self, namespace: str, *, fresh: bool) -> list[PodUse]:
        return []


@pytest.mark.parametrize("trouble", [ABSENT, TimeoutError(), ValueError("a defect")])
async def test_a_reader_that_fails_is_removed_and_told_once(trouble: WorkerState | Exception) -> None:
    workers, notices = Workers(trouble), list[str]()
    claims = cast("Claims", OneClaim())
    reading = UsageReading(
        claims,
        cast("Surroundings", claims),
        cast("WorkersPort", workers),
        UsageBook(),
        Settings(volume_reader_seconds=1, worker_image="image").model_copy(
            update={"volume_reader_seconds": 0.001}
        ),
        volumes=lambda: [bound()],
        touch=lambda key: None,
        tell=lambda resource, notice: notices.append(notice.reason),
    )
    task = asyncio.ensure_future(reading.run())
    async with asyncio.timeout(5):
        await workers.stopped_often.wait()
    assert not task.done()
    task.cancel()
    assert notices == ([] if isinstance(trouble, ValueError) else ["UsageUnknown"])


async def test_nodes_that_changed_are_asked_for_anew_whoever_asked_a_moment_ago() -> None:
    answers = iter([[node()], [node(ready=False)]])

    class Nodes:
        async def nodes(self) -> list[Node]:
            return next(answers)

        classes = attachments = nodes

    around = Surroundings(cast("Claims", Nodes()), seconds=3600)
    assert (await around.nodes())[0].ready
    assert (await around.nodes())[0].ready
    around.nodes_changed()
    assert not (await around.nodes())[0].ready
