"""Fixtures that all tests share; the test bed's own plugins define them."""

import os

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = [
    "testbed.pytest_stores",
    "testbed.pytest_sharded",
    "testbed.pytest_operator",
    "testbed.cluster.pytest_cluster",
]

# How long an example takes says something of the machine's load, and nothing of the property.
settings.register_profile("lucid", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lucid")

SLOW_FILES = {
    "test_backup_on_node.py": 0,
    "test_volume_backup_on_node.py": 0,
    "test_volume_migration_on_node.py": 0,
    "test_volume_ext4_on_node.py": 0,
    "test_volume_on_node.py": 0,
    "test_stores_lost.py": 1,
    "test_operator_killed.py": 1,
    "test_watch_cut.py": 1,
    "test_elastic_backup_faults.py": 2,
    "test_elastic_killed.py": 2,
    "test_schedule_real_workers.py": 2,
    "test_namespace_deleted.py": 2,
    "test_restore_on_server.py": 3,
    "test_mongodb_full.py": 3,
    "test_mongodb_slices.py": 3,
    "test_sharded_on_server.py": 3,
    "test_restore_asked_again.py": 3,
    "test_stores.py": 1,
    "test_stores_command.py": 2,
    "test_elastic_faults.py": 3,
    "test_mongo_watch.py": 3,
}
"""Files that wait for clocks and servers for minutes. Begun first, each on the worker with that number: at the end of a
run they would keep one worker busy while the others have nothing to do. Those of the node are together, as all of them
wait for one image."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put slow files at the beginning of each worker's share (xdist's worksteal deals equal parts of the list)."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow: list[list[pytest.Item]] = [[] for _ in range(workers)]
    quick: list[pytest.Item] = []
    for item in items:
        number = SLOW_FILES.get(item.path.name)
        (quick if number is None else slow[number % workers]).append(item)
    share = len(items) / workers
    dealt: list[pytest.Item] = []
    for number, first in enumerate(slow):
        dealt += first
        rest = round(share * (number + 1)) - len(dealt)
        dealt += quick[:rest] if rest > 0 else []
        quick = quick[max(0, rest) :]
    items[:] = dealt + quick
