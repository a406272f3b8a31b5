"""The logins for backup and restore on docs/privileges.md are enough, and each of their rights is needed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.redis.redis_bed import Backup, Run
from lucid_storage.errors import AccessDeniedError
from stores.redis_backup.redis_samples import LIBRARY

pytestmark = pytest.mark.redis
PAGE = (Path(__file__).parents[3] / "docs" / "privileges.md").read_text()
PASSWORD = "a-secret"


def documented(user: str) -> list[str]:
    """The ACL command of the page, in words."""
    (line,) = re.findall(rf"^ACL SETUSER {user} .*$", PAGE, re.MULTILINE)
    return [word.replace(">PASSWORD", f">{PASSWORD}") for word in line.split()]


def login(server: Any, user: str) -> str:
    return str(server.url.replace("redis://", f"redis://{user}:{PASSWORD}@"))


@pytest.fixture
def server(private_redis: Callable[..., Any]) -> Any:
    made = private_redis()
    with made.client() as client:
        client.set("a", "x")
        client.execute_command("SELECT", 3)
        client.set("b", "x")
        client.execute_command("FUNCTION", "LOAD", LIBRARY)
    return made


def test_what_the_page_grants_is_enough(server: Any) -> None:
    with server.client() as client:
        for user in ("lucid-backup", "lucid-restore"):
            client.execute_command(*documented(user))
        run = Run()
        backup = Backup(run.take(login(server, "lucid-backup")), bytes(run.sink.data))
        client.flushall()
        client.execute_command("FUNCTION", "FLUSH")
        done = backup.restore(login(server, "lucid-restore"))
        assert (done.restored, done.functions) == (2, 1)


def rights(user: str) -> list[str]:
    return [word for word in documented(user) if word.startswith("+")]


@pytest.mark.parametrize("right", rights("lucid-backup"))
def test_a_backup_needs_each_right(server: Any, right: str) -> None:
    with server.client() as client:
        client.execute_command(*(word for word in documented("lucid-backup") if word != right))
    with pytest.raises(AccessDeniedError, match=right[1:].upper()):
        Run().take(login(server, "lucid-backup"))


@pytest.mark.parametrize("right", [*rights("lucid-restore"), "~*"])
def test_a_restore_needs_each_right_and_writes_nothing_without_it(server: Any, right: str) -> None:
    backup = Backup.of(server)
    with server.client() as client:
        client.flushall()
        client.execute_command("FUNCTION", "FLUSH")
        client.execute_command(*(word for word in documented("lucid-restore") if word != right))
        said = right[1:].upper().replace("|", " ") if right != "~*" else "keys"
        with pytest.raises(AccessDeniedError, match=said):
            backup.restore(login(server, "lucid-restore"))
        assert client.info("keyspace") == {}
