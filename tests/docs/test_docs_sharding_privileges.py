"""The built-in roles that docs/privileges.md names for sharding hold what it lists, by the server's own word.

Whether a router asks for exactly these cannot be tried behind the stand-in, which has no logins.
"""

import re

import pytest
from docs_pages import ROOT

from testbed.pytest_sharded import Foreign
from testbed.stores.sharded import Sharded

PAGE = (ROOT / "docs" / "privileges.md").read_text()
ROLES = ("clusterManager", "clusterMonitor")


def documented() -> set[tuple[str, str]]:
    """(resource, action) of every row: `cluster`, `database` or a collection of config."""
    section = PAGE.partition("A ShardedCollection needs")[2].partition("Time-series collections")[0]
    rows = [line.split("|")[2:4] for line in section.splitlines() if line.startswith("| ")][1:]
    found = set()
    for actions, resources in rows:
        for some, there in zip(actions.split(";"), resources.split(";"), strict=True):
            names = re.findall(r"`(?:config\.)?(\w+)`", there)
            where = [f"config.{name}" for name in names] or [there.strip().removeprefix("the ")]
            words = [word for word in re.findall(r"\w+", some) if word not in ("from", "8", "0")]
            found |= {(place, action) for place in where for action in words}
    return found


@pytest.mark.mongodb
def test_the_built_in_roles_hold_what_sharding_needs(sharded: Sharded | Foreign) -> None:
    if isinstance(sharded, Foreign):
        pytest.skip("asks the config server itself, which is not ours")
    granted: dict[tuple[str, str], set[str]] = {}
    with sharded.config_client() as client:
        for role in ROLES:
            command = {"rolesInfo": {"role": role, "db": "admin"}, "showPrivileges": True}
            for privilege in client.admin.command(command)["roles"][0]["privileges"]:
                resource = privilege["resource"]
                place = (
                    ("cluster", "")
                    if "cluster" in resource
                    else (resource.get("db"), resource.get("collection"))
                )
                granted.setdefault(place, set()).update(privilege["actions"])
    needed = documented()
    assert {("database", "enableSharding"), ("config.shards", "update"), ("cluster", "inprog")} <= needed
    for place, action in needed:
        where = {"cluster": ("cluster", ""), "database": ("", "")}.get(place, ("config", ""))
        assert action in granted[where], (place, action)
