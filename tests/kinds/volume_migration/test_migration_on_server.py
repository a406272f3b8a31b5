"""The same migrations on a real API server with its own binder, its protection of claims and its reclaiming."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from migration_bed import Ground, crawl, held, killed, moved, place, real_ground, says, target

from lucid_storage.kube.claims import claim_path

pytestmark = pytest.mark.apiserver

WRITES = 40
"""More than a migration takes: an operator that would die later brings it to its end."""


@pytest.fixture
async def land(kubernetes_api: Path) -> AsyncIterator[Ground]:
    made = await real_ground(kubernetes_api)
    yield made
    await made.close()


async def test_an_operator_that_dies_on_the_way_is_followed_by_another(land: Ground) -> None:
    """The binder gives the new volume the old claim's name; every third time the status is lost as well. After each
    single write it is shown on the played server.
    """
    cases = [killed(land, n, forgets=n % 3 == 2, exact=False) for n in range(0, WRITES, 5)]
    failures = [f for f in await asyncio.gather(*cases, return_exceptions=True) if f is not None]
    assert not failures, "\n".join(repr(failure) for failure in failures)


async def test_a_pod_that_slips_in_is_waited_for_and_what_it_wrote_is_moved(land: Ground) -> None:
    """The real protection of claims in use holds the old claim for it; the switch says who stands in the way."""
    there = await place(land)
    await crawl(there, lambda: held(there))
    await there.pod("late")
    await land.kube.request("DELETE", claim_path(there.namespace, "data"))
    await there.born()
    await there.until(lambda: says(there, "these pods still use it: late"), "the pod to be named")
    (there.source / "written-late").write_text("not lost")
    await there.end_pod("late")
    await there.settled()
    assert (await target(there) / "written-late").read_text() == "not lost"


async def test_a_namespace_that_refuses_small_claims_is_no_hindrance(land: Ground) -> None:
    there = await place(land)
    limits = {"limits": [{"type": "PersistentVolumeClaim", "min": {"storage": "100Mi"}}]}
    ranges = f"/api/v1/namespaces/{there.namespace}/limitranges"
    await land.kube.request("POST", ranges, body={"metadata": {"name": "not-small"}, "spec": limits})
    await there.born()
    await there.settled()
    await moved(there)


async def test_a_pod_that_has_ended_holds_the_claim_and_is_named(land: Ground) -> None:
    """As that of a Job that is kept for its log: Kubernetes lets the claim go when it is deleted, and not before."""
    there = await place(land)
    await crawl(there, lambda: held(there))
    await there.pod("over", phase="Succeeded")
    await land.kube.request("DELETE", claim_path(there.namespace, "data"))
    await there.born()
    await there.until(lambda: says(there, "until they are deleted: over. Delete them"), "the pod to be named")
    await there.end_pod("over")
    await there.settled()
