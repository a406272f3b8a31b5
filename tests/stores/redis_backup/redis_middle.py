"""A proxy before a Redis that spoils what the server says, at a byte of our choice."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self

Spoil = Callable[[bytes], "bytes | None"]
"""What passes on of the next bytes that the server sent; None ends the connection."""


class Middle:
    """`spoil` makes one filter a connection; without it bytes pass as they are. `said` keeps what the
    server sent. With `holds` an end of one side is not told to the other.
    """

    def __init__(self, target: int, spoil: Callable[[], Spoil] | None = None, *, holds: bool = False) -> None:
        self.said = bytearray()
        self._holds = holds
        self._target = target
        self._spoil = spoil or (lambda: bytes)
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                threading.Thread(target=self._pass, args=(client, server, bytes), daemon=True).start()
                threading.Thread(
                    target=self._pass, args=(server, client, self._spoil(), self.said), daemon=True
                ).start()

    def _pass(
        self, source: socket.socket, target: socket.socket, spoil: Spoil, said: bytearray | None = None
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if said is not None:
                    said += data
                passed = spoil(data)
                if passed is None:
                    break
                target.sendall(passed)
        if self._holds:
            return
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def cut_after(size: int) -> Callable[[], Spoil]:
    """Ends each connection after so many bytes of the data set."""
    return lambda: _first(size, None)


def silent_after(size: int) -> Callable[[], Spoil]:
    """Passes nothing more after so many bytes of the data set."""
    return lambda: _first(size, b"")


def _first(size: int, then: bytes | None) -> Spoil:
    seen = bytearray()
    passed = 0

    def spoil(data: bytes) -> bytes | None:
        nonlocal passed
        seen.extend(data)
        begin = seen.find(b"REDIS00")
        until = len(seen) if begin < 0 else min(len(seen), begin + size)
        if passed >= until:
            return then
        found = bytes(seen[passed:until])
        passed = until
        return found

    return spoil


class Script:
    """A server that answers each command with the next of `answers`, and then ends the connection."""

    def __init__(self, *answers: bytes, stay: bool = False) -> None:
        self._answers = answers
        self._stay = stay
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._connection: socket.socket | None = None
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._listener, self._connection):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            self._connection, _ = self._listener.accept()
            for answer in self._answers:
                if not self._connection.recv(65536):
                    return
                self._connection.sendall(answer)
            if self._stay:
                while self._connection.recv(65536):
                    pass
            self._connection.shutdown(socket.SHUT_RDWR)
