"""An order reaches its worker as it is, one that names every Backup of a long chain too."""

from __future__ import annotations

import os
import subprocess
import sys
from uuid import UUID

import pytest
from test_worker_job import ORDER, pod_of, worker

from lucid_storage.errors import RefusedError
from lucid_storage.models.orders import Destination
from lucid_storage.models.pruning import PruneOrder
from testbed.expansion import expanded

MOST_STRING = 131_072
"""Bytes of one environment string, its name and the zero at its end included."""


def order(backups: int, told: int = 0, root: str = "größer") -> PruneOrder:
    """Of hourly backups that are kept for a year there are 8,760."""
    ids = tuple(str(UUID(int=n)) for n in range(backups))
    return PruneOrder(
        run="r1",
        owner=ORDER.owner,
        destination=Destination(root=root),
        chain="main",
        deadline_seconds=60,
        known=ids,
        unrestorable=ids[:told],
    )


def environment(wanted: PruneOrder) -> dict[str, str]:
    """What the process is given by its kubelet."""
    [container] = pod_of(worker(command="prune", order=wanted))["containers"]
    given: dict[str, str] = {}
    for entry in container["env"]:
        if "value" in entry:
            given[entry["name"]] = expanded(entry["value"], given)
    return given


@pytest.mark.parametrize(
    "wanted",
    [
        order(1),
        order(9000),
        order(9000, 9000),
        order(1, root="a$$b/$(LUCID_ORDER)"),
        order(1, root="$(LUCID_ORDER)" * 5000),
        order(1, root="$" * 70_001),
    ],
    ids=[
        "short",
        "long",
        "very long",
        "with signs",
        "with references in all its parts",
        "with signs at borders",
    ],
)
def test_an_order_reaches_its_process_as_it_is(wanted: PruneOrder) -> None:
    given = environment(wanted)
    assert all(len(f"{name}={value}".encode()) < MOST_STRING for name, value in given.items())
    read = "import os; from lucid_storage.models.order_text import order_in; print(order_in(os.environ))"
    path = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", read], env={**given, **path}, capture_output=True, check=True
    )
    assert PruneOrder.model_validate_json(done.stdout) == wanted


@pytest.mark.parametrize(
    "wanted", [order(30_000), order(1, root="$" * 600_000)], ids=["as it is", "as it is sent"]
)
def test_one_that_no_job_can_hold_is_refused_in_a_sentence(wanted: PruneOrder) -> None:
    with pytest.raises(RefusedError, match="more Backups than a worker can be told of"):
        environment(wanted)
