"""Fixtures that all tests share; the test bed's own plugins define them."""

pytest_plugins = ["testbed.pytest_stores", "testbed.pytest_operator", "testbed.cluster.pytest_cluster"]
