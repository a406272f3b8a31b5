"""Fixtures that all tests share; the test bed's own plugins define them."""

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
