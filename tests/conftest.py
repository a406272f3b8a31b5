"""Fixtures that all tests share; the test bed's own plugins define them."""

import pytest

pytest_plugins = ["testbed.pytest_stores", "testbed.pytest_operator", "testbed.cluster.pytest_cluster"]

# Mostly waiting for servers and deadlines, up to a minute each. They begin first: none is left alone at the end.
LONG = (
    "test_stores_lost",
    "test_operator_killed",
    "test_watch_cut",
    "test_namespace_deleted",
    "tests/operator/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first; the order among others stays."""

    def rank(item: pytest.Item) -> int:
        return next((place for place, part in enumerate(LONG) if part in item.nodeid), len(LONG))

    items.sort(key=rank)
