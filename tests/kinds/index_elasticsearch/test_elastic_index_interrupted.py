"""Work on a series that is cut off at any write is finished by the next look, once."""

from dataclasses import replace
from typing import Any

import pytest

from kinds.index_elasticsearch.elastic_bed import Series
from lucid_storage.errors import LeadershipLostError
from stores.elasticsearch.fake_elastic import FakeElastic

DECLARED: dict[str, Any] = {
    "mappings": {"properties": {"id": {"type": "keyword"}}},
    "settings": {"number_of_replicas": 0},
    "aliases": ["all-sessions"],
    "lifecycle": {"hotDays": 7, "warmDays": 30, "coldDays": 90, "deleteDays": 90},
}
CHANGED: dict[str, Any] = {
    "mappings": {"properties": {"id": {"type": "keyword"}, "user": {"type": "keyword"}}},
    "settings": {"refresh_interval": "5s"},
}


class Fuse:
    """Lets so many writes through, then ends the process's right to write."""

    def __init__(self) -> None:
        self.left: int | None = None

    def __call__(self) -> None:
        if self.left == 0:
            raise LeadershipLostError
        if self.left is not None:
            self.left -= 1


async def run(cut_after: int | None) -> tuple[FakeElastic, Series, bool]:
    """A series made and then changed, the change cut off after so many writes; whether it was cut off."""
    fuse = Fuse()
    fake = FakeElastic(has_ilm=True, guard=fuse)
    sessions = Series(fake, "lucid-sessions")
    await sessions.occupy("2026.10")
    await sessions.declare(**DECLARED)
    fuse.left = cut_after
    try:
        await sessions.declare(**CHANGED)
    except LeadershipLostError:
        fuse.left = None
        successor = Series(fake, "lucid-sessions")
        successor.resource = replace(sessions.resource)
        await successor.look()
        return fake, successor, True
    return fake, sessions, False


async def state(fake: FakeElastic) -> Any:
    template, indices = await fake.template("lucid-sessions"), await fake.indices("*")
    return template, indices, fake.stored_policies


async def test_a_change_cut_off_at_any_write_ends_the_same() -> None:
    whole, expected, _ = await run(None)
    assert expected.is_ready(), expected.shown()
    cuts = 0
    for after in range(100):
        fake, sessions, cut = await run(after)
        assert sessions.is_ready(), sessions.shown()
        assert await state(fake) == await state(whole)
        assert sessions.resource.status["managedFields"] == expected.resource.status["managedFields"]
        cuts += cut
        if not cut:
            break
    assert cuts > 8


@pytest.mark.parametrize("after", range(4))
async def test_a_creation_cut_off_at_any_write_is_finished_once(after: int) -> None:
    fuse = Fuse()
    fuse.left = after
    fake = FakeElastic(guard=fuse)
    first = Series(fake, "lucid-sessions")
    if after < 3:
        with pytest.raises(LeadershipLostError):
            await first.declare(settings={"number_of_replicas": 0})
    else:
        await first.declare(settings={"number_of_replicas": 0})
    fuse.left = None
    second = Series(fake, "lucid-sessions")
    second.resource = replace(first.resource)
    await second.look()
    assert second.is_ready(), second.shown()
    assert second.resource.status["origin"] == "Created"
    assert sorted(fake.writes) == [
        "create_index lucid-sessions-2026.11",
        "create_index lucid-sessions-2026.12",
        "put_template lucid-sessions",
    ]
