"""Claims of restored volumes on a real API server."""

import pytest

from lucid_storage.kinds.restore.volumes import Origin, WantedClaim, claim_body
from lucid_storage.kube.claims import Claims, claim_path
from lucid_storage.models.meta import RESTORED_BY
from testbed.pytest_operator import World

pytestmark = pytest.mark.apiserver


async def test_a_claim_that_waits_for_its_snapshot_is_taken_over_only_as_it_was_read(world: World) -> None:
    claims, first, second = Claims(world.kube), Origin("b1", "run1"), Origin("b1", "run2")
    wanted = WantedClaim("data", "data", 1 << 30, "no-such-class", (), "snap-1")
    await claims.create(claim_body(world.namespace, wanted, first))
    seen = await claims.get(world.namespace, "data")
    assert seen is not None
    assert (seen.pending, seen.source) == (True, "snap-1")
    await world.kube.patch(claim_path(world.namespace, "data"), {"metadata": {"labels": {"a": "b"}}})
    await claims.annotate(seen, second.mark("data"))
    changed = await claims.get(world.namespace, "data")
    assert changed is not None
    assert changed.annotations[RESTORED_BY] == "run1/data", "somebody was there meanwhile"
    await claims.annotate(changed, second.mark("data"))
    taken = await claims.get(world.namespace, "data")
    assert taken is not None
    assert taken.annotations[RESTORED_BY] == "run2/data"
    await claims.delete(taken)
    await claims.annotate(taken, first.mark("data"))
