"""The peer of a create storm: a loop that does what cannot be left out, and nothing else.

    python -m bench.storm_bare NAMESPACE ROUNDS [MONGODB_URI DATABASE]

Prints `ready`, then reads the body of one created object from each line of standard input. Makes its collection or
index, where a MongoDB is given, and patches its status ROUNDS times, as many objects at a time as the operator has
workers. It watches nothing, looks at nothing, checks nothing and remembers nothing. Ends with standard input.
"""

import asyncio
import json
import sys
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from lucid_storage.kube.client import Kube, load_configuration, resource_path
from lucid_storage.models.settings import Settings

Body = dict[str, Any]
AT_ONCE = Settings().workers
"""Objects worked on at the same time: as many as by the operator."""
MAJORITY = {"w": "majority"}
LINE_BYTES = 1024 * 1024


class Maker:
    """Makes collections and indexes with one command each; an index waits for its collection."""

    def __init__(self, database: AsyncDatabase[Body]) -> None:
        self._database = database
        self._made: dict[str, asyncio.Event] = {}

    async def make(self, body: Body) -> None:
        spec = body["spec"]
        if body["plural"] == "collections":
            name = body["metadata"]["name"]
            options = {key: spec[key] for key in ("validator", "validationLevel")}
            await self._database.command({"create": name, **options, "writeConcern": MAJORITY})
            self._there(name).set()
            return
        index = spec["mongodb"]
        keys = {key["field"]: key["order"] for key in index["keys"]}
        name = "_".join(f"{field}_{order}" for field, order in keys.items())
        await self._there(index["collection"]).wait()
        command = {"createIndexes": index["collection"], "indexes": [{"name": name, "key": keys}]}
        await self._database.command({**command, "writeConcern": MAJORITY})

    def _there(self, collection: str) -> asyncio.Event:
        return self._made.setdefault(collection, asyncio.Event())


async def main(namespace: str, rounds: int, uri: str | None = None, database: str | None = None) -> None:
    kube = Kube(await load_configuration(), pool_size=AT_ONCE)
    client: AsyncMongoClient[Body] | None = AsyncMongoClient(uri) if uri and database else None
    maker = Maker(client[database]) if client is not None and database else None
    waiting: asyncio.Queue[Body | None] = asyncio.Queue()

    async def work() -> None:
        while (body := await waiting.get()) is not None:
            if maker is not None:
                await maker.make(body)
            for number in range(rounds):
                await patch(kube, namespace, body, number)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
        async for line in await _lines():
            waiting.put_nowait(json.loads(line))
        for _ in range(AT_ONCE):
            waiting.put_nowait(None)
    await kube.close()
    if client is not None:
        await client.close()


async def patch(kube: Kube, namespace: str, body: Body, number: int) -> None:
    """Write the status that an object of the same spec has, a little different each time."""
    status = {**body["status"], "message": f"round {number}"}
    path = resource_path(body["plural"], namespace, body["metadata"]["name"], "status")
    await kube.patch(path, {"status": status})


async def _lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(LINE_BYTES)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("ready", flush=True)
    return reader


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
