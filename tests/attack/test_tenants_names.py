"""A served namespace reaches no further than the names that its settings give it."""

from collections.abc import AsyncIterator

import pytest
from attack_bed import collection, series

from lucid_storage.app.stores import store_engines
from lucid_storage.errors import NotAllowedError, Reason
from lucid_storage.kinds.collection.kind import CollectionKind
from lucid_storage.kinds.connections import Connections
from lucid_storage.kinds.index_elasticsearch.kind import ElasticIndexKind
from lucid_storage.kinds.scanner import KeySpaceScanner
from lucid_storage.models.settings import ServedNamespace, Settings

SERVED = {
    "team-a": ServedNamespace(databases=("team_a", "team_a_*"), indices=("team-a-*",), keys=("team-a:*",))
}


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    settings = Settings(SERVED_NAMESPACES=SERVED)
    engines = store_engines(settings, lambda: None)

    async def no_secret(namespace: str, name: str) -> None:
        return None

    made = Connections(
        settings, no_secret, mongodb=engines.mongodb, redis=engines.redis, elasticsearch=engines.elasticsearch
    )
    yield made
    await made.close()


@pytest.mark.parametrize(
    "database", ["team_b", "Team_a", "xteam_a", "team_ab", "team_a\n", "team_*", "team_[a]"]
)
async def test_databases_outside_of_the_patterns_are_refused(connections: Connections, database: str) -> None:
    kind = CollectionKind(connections, KeySpaceScanner(connections, lambda _: None, 60), lambda *_: 600)
    with pytest.raises(NotAllowedError) as refusal:
        await kind.desired(collection("team-a", database=database))
    assert refusal.value.reason is Reason.DATABASE_NOT_ALLOWED


@pytest.mark.parametrize("pattern", ["team-b:{id}", "team-{x}:a", "team-a{x}:a", "xteam-a:{id}"])
async def test_keys_outside_of_the_patterns_are_refused(connections: Connections, pattern: str) -> None:
    kind = CollectionKind(connections, KeySpaceScanner(connections, lambda _: None, 60), lambda *_: 600)
    cache = [{"keyPattern": pattern, "ttlSeconds": 60}]
    with pytest.raises(NotAllowedError) as refusal:
        await kind.desired(collection("team-a", database="team_a", cache=cache))
    assert refusal.value.reason is Reason.KEYS_NOT_ALLOWED


@pytest.mark.parametrize(
    ("stem", "aliases"),
    [
        ("team-b-logs", []),
        ("team-a", []),
        ("team-a-logs", ["team-b-logs"]),
        ("team-a-logs", ["team-a-all", "logs"]),
    ],
)
async def test_indices_and_aliases_outside_of_the_patterns_are_refused(
    connections: Connections, stem: str, aliases: list[str]
) -> None:
    kind = ElasticIndexKind(connections, lambda *_: 600)
    with pytest.raises(NotAllowedError) as refusal:
        await kind.desired(series("team-a", stem, aliases))
    assert refusal.value.reason is Reason.INDEX_NOT_ALLOWED


async def test_what_the_patterns_name_is_allowed(connections: Connections) -> None:
    kind = ElasticIndexKind(connections, lambda *_: 600)
    desired = await kind.desired(series("team-a", "team-a-logs", ["team-a-all"]))
    assert desired.aliases == ("team-a-all",)
