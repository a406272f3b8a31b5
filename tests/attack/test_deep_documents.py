"""A document nested beyond all measure harms the one who declares it, and nobody else."""

import asyncio
from asyncio.subprocess import PIPE

import pytest

from lucid_storage.models.meta import API_VERSION
from testbed.pytest_operator import World

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

DEEPEST = 9_900
"""Levels that the API server takes: 10,000 with those around the validator."""


async def apply_nested(world: World, name: str, levels: int, opening: str, closing: str) -> None:
    """As text, since the client's own JSON encoder has a limit too."""
    validator = '{"a":' + opening * levels + "1" + closing * levels + "}"
    body = (
        f'{{"apiVersion":"{API_VERSION}","kind":"Collection","metadata":{{"name":"{name}"}},'
        f'"spec":{{"validator":{validator}}}}}'
    )
    await kubectl(world, "create", "--raw", world.path("Collection"), "-f", "-", given=body)


async def ready_condition(world: World, name: str) -> list[str]:
    """Without the spec, which this process could not decode."""
    path = "jsonpath={range .status.conditions[?(@.type=='Ready')]}{.reason}|{.message}{end}"
    said = await kubectl(world, "-n", world.namespace, "get", "collection", name, "-o", path)
    return said.split("|")


async def kubectl(world: World, *arguments: str, given: str = "") -> str:
    command = [f"{world.kubeconfig.parent}/bin/kubectl", f"--kubeconfig={world.kubeconfig}", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    output, error = await process.communicate(given.encode())
    assert process.returncode == 0, error.decode()
    return output.decode()


@pytest.mark.parametrize(
    ("levels", "opening", "closing"),
    [(52, '{"a":', "}"), (900, '{"a":', "}"), (DEEPEST, '{"a":', "}"), (DEEPEST, "[", "]")],
    ids=["52 documents", "900 documents", "9900 documents", "9900 lists"],
)
async def test_deep_nesting_is_one_condition_and_stops_no_other_work(
    mongo_world: World, levels: int, opening: str, closing: str
) -> None:
    operator = mongo_world.start_operator()
    await apply_nested(mongo_world, "deep", levels, opening, closing)
    await mongo_world.create("Collection", "beside", {})
    await mongo_world.ready("Collection", "beside", 20)

    async def refused() -> bool:
        return (await ready_condition(mongo_world, "deep"))[0] == "InvalidSpec"

    await mongo_world.until(refused, 20, "the condition InvalidSpec")
    operator.stop()
    mongo_world.start_operator()
    await mongo_world.create("Collection", "after", {})
    await mongo_world.ready("Collection", "after", 20)
    assert len(" ".join(await ready_condition(mongo_world, "deep"))) < 600
    # This process could not decode it, so it cannot clean up behind it either.
    await kubectl(mongo_world, "-n", mongo_world.namespace, "delete", "collection", "deep")
