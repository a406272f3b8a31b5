"""The logins for a proof by a restore on docs/privileges.md: what they are enough for, and what they tell apart."""

from collections.abc import Callable
from pathlib import Path

import pytest
from workshop import Workshop

from lucid_storage.models.backup import Verify
from testbed.stores.mongodb import MongoDB

PAGE = (Path(__file__).parents[2] / "docs" / "privileges.md").read_text()
PASSWORD = "a-secret"


def documented() -> list[str]:
    (row,) = [line for line in PAGE.splitlines() if line.startswith("| proof by a restore, MongoDB")]
    return row.strip("|").split("|")[1].strip().split(", ")


@pytest.mark.mongodb
def test_by_any_login_the_server_that_was_read_proves_no_more_than_its_oplog_takes(
    private_mongodb: Callable[..., MongoDB], workshop: Callable[..., Workshop]
) -> None:
    server, roles = private_mongodb(auth=True, oplog_mib=16), documented()
    with server.client() as client:
        grant = {"resource": {"cluster": True}, "actions": ["applyOps"]}
        client.admin.command("createRole", "lucidRestore", privileges=[grant], roles=[])
        client.small.a.insert_one({"_id": 1})
        client.large.a.insert_many([{"_id": n, "text": "x" * 1000} for n in range(4000)])
    users = {
        "dumper": ["backup", "clusterMonitor"],
        "unknowing": ["backup"],
        "prover": roles,
        "blind": [role for role in roles if role != "clusterMonitor"],
    }
    for user, granted in users.items():
        server.create_user(user, PASSWORD, [(role, "admin") for role in granted])
    shop = workshop()

    def proved(dumper: str, prover: str, database: str) -> tuple[Verify | None, str]:
        shop.chain = f"{dumper}-{prover}-{database}"
        shop.environ["MONGODB_URI"] = server.uri_for(dumper, PASSWORD)
        shop.environ["BACKUP_VERIFY_URI"] = server.uri_for(prover, PASSWORD)
        told = shop.made("b", database, verify="Restore")
        assert told.ok, told.message
        return told.verified, told.verify_message

    assert proved("dumper", "prover", "small") == (Verify.RESTORE, "")
    assert proved("unknowing", "prover", "small") == (Verify.RESTORE, "")
    level, said = proved("dumper", "prover", "large")
    assert (level, "BACKUP_VERIFY_URI is the server that was read" in said) == (Verify.CHECKSUM, True), said
    level, said = proved("unknowing", "prover", "large")
    assert (level, "may be the server" in said, "replSetGetConfig" in said) == (Verify.CHECKSUM, True, True)
    level, said = proved("dumper", "blind", "small")
    assert (level, "local.oplog.rs" in said) == (Verify.CHECKSUM, True), said
