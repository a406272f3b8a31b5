"""A TCP relay whose network can fail: silently, as a cut cable does, or by refusing."""

import contextlib
import math
import socket
import threading
from dataclasses import dataclass, field
from time import monotonic


@dataclass(eq=False)
class _Pair:
    client: socket.socket
    server: socket.socket
    silent_from: float
    """When nothing passes any more, and nobody is told."""

    @property
    def silent(self) -> bool:
        return monotonic() >= self.silent_from

    def relay(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self.silent:
                    target.sendall(data)
        if not self.silent:
            self.close()

    def close(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@dataclass(eq=False)
class Relay:
    """Passes connections on to a port of this machine, in threads of its own."""

    target: int
    lifetime: float = math.inf
    """Seconds after which every connection goes silent."""
    accepted: int = 0
    """Connections so far."""
    _pairs: list[_Pair] = field(default_factory=list)
    _refusing: bool = False

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """The connections there are go silent without an end; new ones pass."""
        for pair in self._pairs:
            pair.silent_from = monotonic()

    def refuse(self) -> None:
        """All connections end, and new ones are ended at once."""
        self._refusing = True
        for pair in self._pairs:
            pair.close()

    def accept(self) -> None:
        """New connections pass again."""
        self._refusing = False

    def close(self) -> None:
        self.refuse()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.accepted += 1
                self._pass_on(client)

    def _pass_on(self, client: socket.socket) -> None:
        try:
            if self._refusing:
                raise ConnectionRefusedError
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        pair = _Pair(client, server, monotonic() + self.lifetime)
        self._pairs.append(pair)
        for ends in ((client, server), (server, client)):
            threading.Thread(target=pair.relay, args=ends, daemon=True).start()
