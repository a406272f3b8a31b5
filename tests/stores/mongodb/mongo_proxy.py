"""A TCP proxy in front of a server, to cut connections without a reset and to count what crosses the wire."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

CHUNK = 65_536


@dataclass
class Connection:
    swallowing: bool = False
    waited: bool = False


class Proxy:
    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._connections: list[Connection] = []
        self.bytes_from_server = 0

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    def swallow(self) -> None:
        """From now on nothing crosses the connections that are open; new ones work."""
        for connection in self._connections:
            connection.swallowing = True

    def swallow_streams(self) -> None:
        """The same for those connections alone on which somebody waited for more of a cursor."""
        for connection in self._connections:
            connection.swallowing = connection.swallowing or connection.waited

    async def sees_stream(self) -> bool:
        return any(connection.waited for connection in self._connections)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        pumps = list(self._pumps)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, far_writer}
        connection = Connection()
        self._connections.append(connection)
        for source, sink, from_server in ((reader, far_writer, False), (far_reader, writer, True)):
            pump = asyncio.create_task(self._pump(source, sink, connection, from_server))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        connection: Connection,
        from_server: bool,
    ) -> None:
        with suppress(ConnectionError):
            while data := await source.read(CHUNK):
                connection.waited = connection.waited or (not from_server and b"getMore" in data)
                if connection.swallowing:
                    continue
                if from_server:
                    self.bytes_from_server += len(data)
                sink.write(data)
                await sink.drain()
        if not connection.swallowing:
            sink.close()


@asynccontextmanager
async def proxied(address: str) -> AsyncIterator[Proxy]:
    host, _, port = address.rpartition(":")
    proxy = Proxy(host, int(port))
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
