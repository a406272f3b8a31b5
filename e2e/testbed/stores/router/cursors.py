"""Cursors that clients of the router hold. Drivers send getMore over any of their connections."""

import asyncio
import itertools
import time
from dataclasses import dataclass

from testbed.stores.router.backends import Cluster, refusal
from testbed.stores.router.wire import Document

_STREAM_NUMBERS = itertools.count(1)
_TURN_MS = 50
"""One shard is waited for so long before the next one is asked."""


@dataclass(frozen=True)
class Cursor:
    """A cursor of one server: its own, or one of the router inside of it."""

    server: str
    get_more: str


@dataclass
class Stream:
    """A change stream over all shards: one cursor on each, asked in turn."""

    name: str
    cursors: dict[str, int]


class Cursors:
    """All cursors of the router."""

    def __init__(self) -> None:
        self._single: dict[int, Cursor] = {}
        self._streams: dict[int, Stream] = {}

    def noted(self, server: str, answer: Document, get_more: str) -> Document:
        """The answer, with its cursor remembered where it has one."""
        cursor = answer.get("cursor")
        if isinstance(cursor, dict) and cursor.get("id"):
            self._single[int(cursor["id"])] = Cursor(server, get_more)
        return answer

    async def more(self, cluster: Cluster, database: str, command: Document) -> Document:
        number = int(command["getMore"])
        rest = {field: value for field, value in command.items() if field != "getMore"}
        if number in self._streams:
            return await self._stream_more(cluster, number, database, rest)
        cursor = self._single.get(number)
        if cursor is None:
            raise refusal(43, "CursorNotFound", f"cursor id {number} not found")
        asked = {cursor.get_more: command["getMore"], **rest}
        answer = await cluster.ask(await cluster.server(cursor.server), asked, database)
        if not answer["cursor"]["id"]:
            self._single.pop(number, None)
        return answer

    async def killed(self, cluster: Cluster, database: str, command: Document) -> Document:
        for number in map(int, command["cursors"]):
            stream = self._streams.pop(number, None)
            for server, inner in (stream.cursors if stream else {}).items():
                await _kill(cluster, server, database, str(command["killCursors"]), inner)
            cursor = self._single.pop(number, None)
            if cursor is not None and cursor.get_more == "getMore":
                await _kill(cluster, cursor.server, database, str(command["killCursors"]), number)
        return {"cursorsKilled": command["cursors"], "cursorsNotFound": [], "ok": 1.0}

    async def open_stream(self, cluster: Cluster, database: str, command: Document) -> Document:
        """A change stream on each shard. Their events are not put in order between shards."""
        cursors, events, answer = {}, [], Document()
        for shard, backend in (await cluster.shards()).items():
            answer = await cluster.ask(backend, command, database)
            cursors[shard] = int(answer["cursor"]["id"])
            events += answer["cursor"]["firstBatch"]
        number = 2**62 + next(_STREAM_NUMBERS)
        self._streams[number] = Stream(str(command["aggregate"]), cursors)
        return {**answer, "cursor": {**answer["cursor"], "id": number, "firstBatch": events}}

    async def _stream_more(self, cluster: Cluster, number: int, database: str, rest: Document) -> Document:
        stream = self._streams[number]
        end = time.monotonic() + rest.get("maxTimeMS", 1_000) / 1000
        while True:
            for shard, inner in stream.cursors.items():
                asked = {"getMore": inner, **rest, "maxTimeMS": _TURN_MS}
                answer = await cluster.ask(await cluster.server(shard), asked, database)
                events = answer["cursor"]["nextBatch"]
                if not answer["cursor"]["id"]:
                    self._streams.pop(number, None)
                    return {**answer, "cursor": {**answer["cursor"], "id": 0}}
                if events or time.monotonic() >= end:
                    return {**answer, "cursor": {**answer["cursor"], "id": number}}
                await asyncio.sleep(0)


async def _kill(cluster: Cluster, server: str, database: str, collection: str, number: int) -> None:
    backend = await cluster.server(server)
    await backend.run({"killCursors": collection, "cursors": [number], "$db": database})
