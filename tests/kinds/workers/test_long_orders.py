"""An order that names every Backup of a long chain reaches its worker."""

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

MOST_STRING = 131_072
"""Bytes of one environment string, its name and the zero at its end included."""


def order(backups: int, told: int = 0) -> PruneOrder:
    """Of hourly backups that are kept for a year there are 8,760."""
    ids = tuple(str(UUID(int=n)) for n in range(backups))
    return PruneOrder(
        run="r1",
        owner=ORDER.owner,
        destination=Destination(root="größer"),
        chain="main",
        deadline_seconds=60,
        known=ids,
        unrestorable=ids[:told],
    )


def environment(wanted: PruneOrder) -> dict[str, str]:
    [container] = pod_of(worker(command="prune", order=wanted))["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


@pytest.mark.parametrize(("backups", "told"), [(1, 0), (9000, 0), (9000, 9000)])
def test_an_order_of_a_long_chain_reaches_its_process(backups: int, told: int) -> None:
    given = environment(order(backups, told))
    assert all(len(f"{name}={value}".encode()) < MOST_STRING for name, value in given.items())
    read = "import os; from lucid_storage.models.order_text import order_in; print(order_in(os.environ))"
    path = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", read], env={**given, **path}, capture_output=True, check=True
    )
    assert PruneOrder.model_validate_json(done.stdout) == order(backups, told)


def test_one_that_no_job_can_hold_is_refused_in_a_sentence() -> None:
    with pytest.raises(RefusedError, match="more Backups than a worker can be told of"):
        environment(order(30_000))
