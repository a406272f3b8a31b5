"""The REST API's thread: a server with an event loop of its own, so that it never delays a reconcile."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time

import uvicorn
from fastapi import FastAPI

from lucid_storage.restapi.limits import Limits
from lucid_storage.restapi.protocol import bounded_protocol

log = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
SILENT_SECONDS = 10.0
START_SECONDS = 20.0


class RestServer:
    """Serves `app` from start() to stop(). Both are called from another thread and block."""

    def __init__(self, app: FastAPI, host: str, port: int, *, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._beat = 0.0
        self._failure: BaseException | None = None
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=bounded_protocol(limits),
                ws="none",
                lifespan="on",
                log_config=None,
                # A malformed request is the sender's fault and must not fill the log.
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                h11_max_incomplete_event_size=limits.header_bytes,
                timeout_keep_alive=int(limits.keep_alive_seconds),
                timeout_graceful_shutdown=max(1, int(limits.request_seconds)),
            )
        )

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; the port is a real one also where 0 was asked for."""
        if self._socket is None:
            return self._host, self._port
        name = self._socket.getsockname()
        return str(name[0]), int(name[1])

    def start(self) -> None:
        """Listen and serve. Raises OSError without the address, RuntimeError when the app does not start."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._socket = socket.create_server((self._host, self._port), family=family, backlog=128)
        self._port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="rest-api", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.stop(1.0)
                raise RuntimeError("The REST API did not start; the log says why.") from self._failure
            time.sleep(0.01)

    def stop(self, deadline_seconds: float = 10.0) -> bool:
        """Let running requests end, then close; False when that took too long. Idempotent."""
        thread = self._thread
        if thread is None:
            return True
        self._server.should_exit = True
        thread.join(deadline_seconds)
        if thread.is_alive():
            self._server.force_exit = True
            thread.join(1.0)
        if thread.is_alive():
            log.warning(
                "the REST API did not end within %.0f s and is left to the end of the process",
                deadline_seconds,
            )
            return False
        self._thread = None
        return True

    def healthy(self) -> bool:
        """Whether it serves and its event loop turns."""
        thread = self._thread
        return (
            thread is not None
            and thread.is_alive()
            and self._server.started
            and time.monotonic() - self._beat < SILENT_SECONDS
        )

    def _run(self) -> None:
        assert self._socket is not None
        try:
            with asyncio.Runner() as runner:
                runner.run(self._serve(self._socket))
        except (Exception, SystemExit) as error:
            self._failure = error
            log.exception("the REST API ended")
        finally:
            self._socket.close()

    async def _serve(self, listening: socket.socket) -> None:
        beat = asyncio.get_running_loop().create_task(self._keep_beating())
        try:
            await self._server.serve(sockets=[listening])
        finally:
            beat.cancel()

    async def _keep_beating(self) -> None:
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(BEAT_SECONDS)
