"""The stand-in's socket: one task a client, one command at a time."""

import asyncio
import contextlib
import itertools
import sys

from testbed.stores.router.backends import Cluster, CommandError
from testbed.stores.router.commands import Session
from testbed.stores.router.cursors import Cursors
from testbed.stores.router.wire import ClosedError, Document, Request, packed, read_request

_NUMBERS = itertools.count(1)
_UNREACHABLE = {"ok": 0.0, "code": 6, "codeName": "HostUnreachable"}


class Router:
    """Serves clients until it is cancelled."""

    def __init__(self, config_host: str, config_port: int) -> None:
        self._config = (config_host, config_port)
        self._cursors = Cursors()

    async def serve(self, hosts: list[str], port: int) -> None:
        server = await asyncio.start_server(self._client, hosts, port, limit=2**20)
        print(f"Stand-in for mongos, for tests alone, on {hosts} port {port}.", flush=True)
        async with server:
            await server.serve_forever()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cluster = Cluster(*self._config)
        session = Session(cluster, self._cursors)
        try:
            while True:
                request = await read_request(reader)
                answer = await _answer(session, request)
                if not request.silent:
                    message = packed(
                        answer, number=next(_NUMBERS), answers=request.number, legacy=request.legacy
                    )
                    writer.write(message)
                    await writer.drain()
        except (ClosedError, ConnectionError):
            pass  # the client has gone, which is how every connection ends
        finally:
            cluster.close()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def _answer(session: Session, request: Request) -> Document:
    try:
        return await session.run(request.command)
    except CommandError as refused:
        return refused.answer
    except ClosedError as error:
        return {**_UNREACHABLE, "errmsg": str(error)}
    except Exception as error:  # noqa: BLE001 - a defect of ours must reach the test, not hang its client
        name = next(iter(request.command), "")
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        text = f"defect of the stand-in router: {type(error).__name__}: {error}"
        return {"ok": 0.0, "code": 1, "codeName": "InternalError", "errmsg": text}
