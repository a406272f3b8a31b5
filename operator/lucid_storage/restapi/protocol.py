"""HTTP connections with bounds that the server library does not have: their number, and time for a header."""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from datetime import UTC, datetime
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from lucid_storage.restapi.errors import API_VERSION, SERVICE, code_of
from lucid_storage.restapi.limits import Limits


def bounded_protocol(limits: Limits) -> type[H11Protocol]:
    """A protocol class for one server.

    A connection without a whole request header `header_seconds` after it began (or after a request's first
    byte) is cut. When all places are taken, the oldest connection without a request gives way to a new one.
    """
    open_connections: dict[BoundedProtocol, None] = {}

    class BoundedProtocol(H11Protocol):
        _header_timer: asyncio.TimerHandle | None = None

        def __init__(
            self,
            config: Config,
            server_state: ServerState,
            app_state: dict[str, Any],
            _loop: asyncio.AbstractEventLoop | None = None,
        ) -> None:
            super().__init__(config, server_state, app_state, _loop)
            self.conn = OneWrite(h11.SERVER, limits.header_bytes)

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            # Of two writes in a row the kernel would hold the second back for 40 ms. The event loop switches
            # that off only for sockets that were made with the protocol's number.
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            open_connections[self] = None
            self._await_header()
            if len(open_connections) > limits.connections:
                idle = next((held for held in open_connections if held.idle), self)
                idle.cut()

        def connection_lost(self, exc: Exception | None) -> None:
            open_connections.pop(self, None)
            self._header_came()
            # The library leaves its timer running when the connection ended with an error.
            self._unset_keepalive_if_required()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.idle and self.timeout_keep_alive_task is None and not self.transport.is_closing():
                self._await_header()

        def handle_events(self) -> None:
            super().handle_events()
            if not self.idle:
                self._header_came()

        def on_response_complete(self) -> None:
            self._header_came()
            super().on_response_complete()

        def timeout_keep_alive_handler(self) -> None:
            # Closing would wait for a peer that does not read what is still to be sent.
            self.cut()

        def send_400_response(self, msg: str) -> None:
            body = _bad_request()
            headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
            length = (b"content-length", str(len(body)).encode())
            if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                response = h11.Response(status_code=400, headers=[*headers, length], reason=b"Bad Request")
                for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                    output = self.conn.send(event)
                    if output:
                        self.transport.write(output)
            self.transport.close()

        @property
        def idle(self) -> bool:
            """Whether no request is being answered."""
            cycle: Any = self.cycle
            return cycle is None or cycle.response_complete

        def cut(self) -> None:
            self.transport.abort()

        def _await_header(self) -> None:
            if self._header_timer is None:
                self._header_timer = self.loop.call_later(limits.header_seconds, self.cut)

        def _header_came(self) -> None:
            if self._header_timer is not None:
                self._header_timer.cancel()
                self._header_timer = None

    return BoundedProtocol


class OneWrite(h11.Connection):
    """Gives an answer's head together with what comes after it.

    Each write lets go of the interpreter, which the reconciles' thread then takes.
    """

    _head = b""

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override]
        output = super().send(event)
        if isinstance(event, h11.Response):
            self._head = output or b""
            return b""
        head, self._head = self._head, b""
        return head + output if output is not None else None


def _bad_request() -> bytes:
    error = {
        "code": code_of(400),
        "message": "This HTTP request cannot be read, or its header is too large; send a correct one.",
        "details": {},
        "request_id": str(uuid.uuid4()),
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "service": SERVICE,
        "version": API_VERSION,
    }
    return json.dumps({"error": error}).encode()
