"""Connections to the servers behind the router, and what their catalogue says."""

import asyncio
import itertools
from typing import Any

from bson import ObjectId, Timestamp

from testbed.stores.router.wire import ClosedError, Document, packed, read_answer

_NUMBERS = itertools.count(1)
UNSHARDED: Document = {"e": ObjectId("0" * 24), "t": Timestamp(0, 0), "v": Timestamp(0, 0)}
MAJORITY: Document = {"w": "majority", "wtimeout": 60_000}
CONFIG = "config"


class CommandError(Exception):
    """A server refused, or we do; `answer` is what the client is to be told."""

    def __init__(self, answer: Document) -> None:
        super().__init__(str(answer.get("errmsg")))
        self.answer = answer
        self.code = int(answer.get("code", 0))


def refusal(code: int, name: str, text: str) -> CommandError:
    return CommandError({"ok": 0.0, "errmsg": text, "code": code, "codeName": name})


class Backend:
    """One connection to the primary of one replica set of one member, used by one client at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, command: Document) -> Document:
        """The server's answer, a refusal too; raises ClosedError when it does not answer."""
        if self._streams is None:
            try:
                self._streams = await asyncio.open_connection(self._host, self._port)
            except OSError as error:
                raise ClosedError(f"{self._host}:{self._port} cannot be reached") from error
        reader, writer = self._streams
        try:
            writer.write(packed(command, number=next(_NUMBERS)))
            await writer.drain()
            return await read_answer(reader)
        except (ClosedError, OSError, asyncio.CancelledError) as error:
            self.close()
            if isinstance(error, OSError) and not isinstance(error, ClosedError):
                raise ClosedError(f"{self._host}:{self._port} closed the connection") from error
            raise

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Cluster:
    """The servers of one cluster as one client of the router sees them."""

    def __init__(self, config_host: str, config_port: int) -> None:
        self.config = Backend(config_host, config_port)
        self._shards: dict[str, Backend] = {}

    def close(self) -> None:
        for backend in (self.config, *self._shards.values()):
            backend.close()

    async def ask(self, backend: Backend, command: Document, database: str) -> Document:
        """An answer with `ok`; raises CommandError otherwise."""
        answer = await backend.run({**command, "$db": database})
        if not answer.get("ok"):
            raise CommandError(answer)
        return answer

    async def read_config(
        self, collection: str, match: Document, *, sort: Document | None = None, limit: int = 0
    ) -> list[Document]:
        command: Document = {"find": collection, "filter": match, "readConcern": {"level": "majority"}}
        command |= {"batchSize": 100_000, "limit": limit}
        if sort is not None:
            command["sort"] = sort
        answer = await self.ask(self.config, command, CONFIG)
        batch: list[Document] = answer["cursor"]["firstBatch"]
        return batch

    async def shards(self) -> dict[str, Backend]:
        """All shards by name."""
        for entry in await self.read_config("shards", {}):
            if entry["_id"] not in self._shards:
                host, _, port = entry["host"].rpartition("/")[2].partition(",")[0].rpartition(":")
                self._shards[entry["_id"]] = Backend(host, int(port))
        return self._shards

    async def server(self, name: str) -> Backend:
        """A shard by its name, or the config server."""
        return self.config if name == CONFIG else (await self.shards())[name]

    async def database(self, name: str) -> Document | None:
        """The entry of config.databases."""
        found = await self.read_config("databases", {"_id": name}, limit=1)
        return found[0] if found else None

    async def created_database(self, name: str, primary: str | None = None) -> Document:
        """The same, made where it is not there yet."""
        found = await self.database(name)
        if found is not None and primary in (None, found["primary"]):
            return found
        command: Document = {"_configsvrCreateDatabase": name, "writeConcern": MAJORITY}
        if primary is not None:
            command["primaryShardId"] = primary
        await self.ask(self.config, command, "admin")
        found = await self.database(name)
        assert found is not None
        return found

    async def collection(self, namespace: str) -> Document | None:
        """The entry of config.collections."""
        found = await self.read_config("collections", {"_id": namespace}, limit=1)
        return found[0] if found else None

    async def owners(self, collection: Document) -> list[str]:
        """Shards that hold chunks of a sharded collection; the one with the lowest chunk first."""
        chunks = await self.read_config("chunks", {"uuid": collection["uuid"]}, sort={"min": 1})
        return list(dict.fromkeys(str(chunk["shard"]) for chunk in chunks))

    async def version(self, collection: Document, shard: str) -> Document:
        """What a shard must find in a command, or it answers that the sender's knowledge is stale."""
        newest = await self.read_config(
            "chunks", {"uuid": collection["uuid"], "shard": shard}, sort={"lastmod": -1}, limit=1
        )
        placed: Any = newest[0]["lastmod"] if newest else Timestamp(0, 0)
        return {"e": collection["lastmodEpoch"], "t": collection["timestamp"], "v": placed}
