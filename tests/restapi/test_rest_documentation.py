"""What docs/rest-api.md promises."""

import asyncio
import json
import os
import re
from pathlib import Path

from rest_clients import serving
from rest_contract import check
from rest_doubles import FixedBackend, KnownCallers

from lucid_storage.restapi.limits import Limits, OperationGroup
from lucid_storage.restapi.operations import OPERATIONS

PAGE = (Path(__file__).parents[2] / "docs" / "rest-api.md").read_text()


async def test_the_example_works_as_printed() -> None:
    example = re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    with serving(FixedBackend(total=9)) as rest:
        url = rest.base.removesuffix("/api/v1")
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-euc",
            example[1],
            env={"PATH": os.environ["PATH"], "TOKEN": "alice", "REST_URL": url},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
    assert process.returncode == 0
    body = json.loads(output)
    check(body, "CollectionListResponse")
    assert len(body["collections"]) == 5


async def test_the_table_of_permissions_is_true() -> None:
    rows = re.findall(r"\| `(GET) (\S+)` \| (\w+) \| (\w+) \|", PAGE)
    assert {(method, path) for method, path, _, _ in rows} <= set(OPERATIONS)
    assert len(rows) == 5
    for _, path, resource, verb in rows:
        with serving(FixedBackend(), KnownCallers(denied={("alice", verb, resource)})) as rest:
            reply = await rest.call(path.replace("{collection_name}", "blocks"))
        assert reply.status == 403, path
        assert f"may not {verb} {resource}." in reply.message


def test_the_table_of_limits_is_true() -> None:
    limits = Limits()
    for group, words in (
        (OperationGroup.DATABASE, "database operations | {rate} a minute for each user, {burst} at once"),
        (OperationGroup.BACKUPS, "backup operations | {rate} a minute, {burst} at once"),
        (OperationGroup.SHARDING, "sharding operations | {rate} a minute, {burst} at once"),
    ):
        rate = limits.rates[group]
        assert words.format(rate=int(rate.per_minute), burst=rate.burst) in PAGE
    assert f"requests running | {limits.requests_at_once}, and {limits.requests_at_once_per_user} for" in PAGE
    assert f"connections | {limits.connections};" in PAGE
    assert (
        f"header | {limits.header_bytes // 1024} KiB, {limits.header_seconds:.0f} s; "
        f"body {limits.body_bytes // 1024} KiB; whole request {limits.request_seconds:.0f} s" in PAGE
    )
