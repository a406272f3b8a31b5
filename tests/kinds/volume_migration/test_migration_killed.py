"""An operator that dies between any two writes of a migration loses nothing: the next one brings it to its end
(rule 4).
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable

import pytest
from migration_bed import Ground, killed, moved, place, played_ground


@pytest.fixture
async def land() -> AsyncIterator[Ground]:
    made = await played_ground()
    yield made
    await made.close()


async def uninterrupted(land: Ground) -> int:
    """How many writes it takes."""
    there = await place(land)
    await there.born()
    await there.settled()
    await moved(there)
    told = [e for e in there.events if e.startswith("Migrat")]
    assert told == ["MigrationStarted", "MigrationSwitching", "Migrated"]
    return there.mortal.done


async def test_a_migration_moves_the_data_whenever_the_operator_dies(land: Ground) -> None:
    """The claim keeps its name, labels and annotations; the old volume is kept, the new one has its policy."""
    writes = await uninterrupted(land)
    assert writes > 20
    await together(killed(land, n, forgets=False) for n in range(writes - 1))


async def test_a_status_that_is_lost_at_any_moment_loses_no_migration(land: Ground) -> None:
    """Before the switch it begins anew; from there the journal on the volumes tells how far it is."""
    writes = await uninterrupted(land)
    await together(killed(land, n, forgets=True) for n in range(writes - 1))


async def together(cases: Iterable[Coroutine[None, None, None]]) -> None:
    """All of them at once: what takes time is waiting for the binder."""
    failures = [f for f in await asyncio.gather(*cases, return_exceptions=True) if f is not None]
    assert not failures, "\n".join(repr(failure) for failure in failures)
