"""A size that the class cannot give: the data move to a larger volume of the same class."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from migration_bed import Ground, moved, place, played_ground, real_ground

from lucid_storage.kube.client import Json


@pytest.fixture(params=["played", pytest.param("real", marks=pytest.mark.apiserver)])
async def land(request: pytest.FixtureRequest) -> AsyncIterator[Ground]:
    if request.param == "played":
        made = await played_ground()
    else:
        kubeconfig: Path = request.getfixturevalue("kubernetes_api")
        made = await real_ground(kubeconfig)
    yield made
    await made.close()


def ready(status: Json) -> str:
    (found,) = [c for c in status["conditions"] if c["type"] == "Ready"]
    return str(found["status"])


async def test_a_larger_size_moves_the_data_within_the_class(land: Ground) -> None:
    wanted = {"storageClassName": land.old_class, "size": "2Gi"}
    there = await place(land, target=False, declared=wanted)
    await land.volume(f"larger-{there.namespace}", land.old_class, size="2Gi")
    await there.born()
    await there.settled()
    await moved(there, land.old_class)
    status, claim = await there.status(), await there.claim()
    assert claim is not None
    assert claim["spec"]["resources"]["requests"]["storage"] == status["size"] == "2Gi"
    assert "cannot expand the volume to 2Gi" in status["migration"]["why"]
    assert there.events.count("Migrated") == 1


async def test_a_claim_whose_volume_is_that_large_already_is_left_where_it_is(land: Ground) -> None:
    wanted = {"storageClassName": land.old_class, "size": "3Gi"}
    there = await place(land, target=False, source_size="5Gi", declared=wanted)
    await there.born()
    for _ in range(3):
        await there.look()
    status = await there.status()
    assert ready(status) == "True", status["message"]
    assert (status["size"], status["requestedSize"]) == ("5Gi", "1Gi")
    assert "migration" not in status
    assert await there.claims() == ["data"]
