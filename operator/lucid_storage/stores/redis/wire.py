"""A blocking connection to one Redis, without a driver: for workers, which stream, and whose memory is counted.

Speaks RESP2, which needs no HELLO, so a narrow ACL will do. Not safe for use by several threads.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, unquote, urlsplit

from lucid_storage.errors import ArchiveDamagedError, LucidError, StoreUnavailableError
from lucid_storage.stores.redis.sentences import reply_error, subject_of, unreachable_sentence, unusable_url

CONNECT_SECONDS = 5.0
CALL_SECONDS = 30.0
READ_BYTES = 256 * 1024
GATHER_BYTES = 96 * 1024
GATHER_MILLISECONDS = 5
MOST_LINE_BYTES = 64 * 1024
MOST_DEPTH = 8
"""Of arrays in arrays; no reply to a command of ours has more than two."""

Part = bytes | str | int


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """A server's refusal. May quote arguments, so it is never shown as it is."""

    text: bytes

    @property
    def word(self) -> bytes:
        """Which error it is, such as NOPERM."""
        return self.text.split(b" ", 1)[0]


Reply = bytes | int | ErrorReply | None | list["Reply"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a Redis is, and how to log in there. Shows no secret."""

    subject: str
    host: str
    port: int
    user: str | None
    secret: bytes | None
    tls: ssl.SSLContext | None

    def __repr__(self) -> str:
        return f"Address({self.subject})"

    def elsewhere(self, host: str, port: int, label: str) -> Address:
        """Another server with the same login."""
        return replace(
            self, host=host, port=port, subject=subject_of(f"redis://{_bracketed(host)}:{port}", label)
        )


def address_of(url: str, label: str, ca_path: str | None = None) -> Address:
    """Raises RefusedError(SecretInvalid) when the URL is none that the operator dials."""
    subject = subject_of(url, label)
    try:
        parts = urlsplit(url)
        tls = _tls(dict(parse_qsl(parts.query)), ca_path) if parts.scheme == "rediss" else None
    except (OSError, ValueError) as error:
        raise unusable_url(label) from error
    return Address(
        subject=subject,
        host=parts.hostname or "",
        port=parts.port or 6379,
        user=unquote(parts.username) if parts.username else None,
        secret=unquote(parts.password).encode() if parts.password else None,
        tls=tls,
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _tls(options: dict[str, str], ca_path: str | None) -> ssl.SSLContext:
    """With the options that redis-py reads from a URL's query as well."""
    context = ssl.create_default_context(cafile=ca_path or options.get("ssl_ca_certs"))
    if options.get("ssl_check_hostname", "true").lower() in {"false", "0", "no"}:
        context.check_hostname = False
    if options.get("ssl_cert_reqs") == "none":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if "ssl_certfile" in options:
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    return context


class Wire:
    """One connection, opened and logged in at once. Raises LucidError and nothing else."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.subject = address.subject
        self._buffer = bytearray()
        self._gathers: select.poll | None = None
        with self._answering():
            self._socket = _connected(address)
        try:
            self._log_in()
        except BaseException:
            self.close()
            raise

    def _log_in(self) -> None:
        if self.address.secret is not None:
            user = [self.address.user] if self.address.user else []
            self.call("AUTH", *user, self.address.secret)

    def close(self) -> None:
        self._socket.close()

    @property
    def peer(self) -> str:
        """The address that the name led to."""
        return str(self._socket.getpeername()[0])

    def call(self, *command: Part) -> Reply:
        """One command's reply; an error reply is raised."""
        self.send([command])
        reply = self.reply()
        if isinstance(reply, ErrorReply):
            raise self.refusal(reply)
        return reply

    def send(self, commands: Sequence[Sequence[Part | tuple[bytes, ...]]]) -> None:
        """Commands without waiting for their replies. A part may be given in pieces."""
        for piece in _packed(commands):
            self._send(piece)

    def send_large(
        self, before: Sequence[Part], size: int, fill: Callable[[Callable[[bytes], None]], None], *after: Part
    ) -> None:
        """One command with a part of `size` bytes that `fill` writes, so that it is never in memory as a whole.

        When `fill` raises or writes another number of bytes, the server has run nothing, and the connection is closed.
        """
        left = size

        def write(piece: bytes) -> None:
            nonlocal left
            left -= len(piece)
            if left >= 0:
                self._send(piece)

        try:
            self._send(b"*%d\r\n" % (len(before) + 1 + len(after)) + b"".join(map(_bulk, before)))
            self._send(b"$%d\r\n" % size)
            fill(write)
            self._refuse_other_length(left)
            self._send(b"\r\n" + b"".join(map(_bulk, after)))
        except BaseException:
            self.close()
            raise

    def _refuse_other_length(self, left: int) -> None:
        if left:
            raise ArchiveDamagedError(f"{self.subject} was sent a value whose length changed; nothing ran.")

    def _send(self, data: bytes) -> None:
        with self._answering():
            self._socket.sendall(data)

    def reply(self, depth: int = 0) -> Reply:
        """The next reply; a server's refusal is a value here, since others may follow it."""
        line = self.line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ErrorReply(rest)
        try:
            if kind == b":":
                return int(rest)
            if kind == b"$":
                return None if rest == b"-1" else self._exactly(int(rest) + 2)[:-2]
            if kind == b"*" and depth < MOST_DEPTH:
                return None if rest == b"-1" else [self.reply(depth + 1) for _ in range(int(rest))]
        except ValueError:
            pass
        raise StoreUnavailableError(f"{self.subject} does not speak Redis's protocol; check host and port.")

    def refusal(self, reply: ErrorReply) -> LucidError:
        """An error reply in our words."""
        return reply_error(reply.text.decode("utf-8", "replace"), self.subject)

    def line(self) -> bytes:
        """The next line, without its end."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MOST_LINE_BYTES:
                raise StoreUnavailableError(
                    f"{self.subject} does not speak Redis's protocol; check host and port."
                )
            self._buffer += self.some()
        found = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        return found

    def taken(self) -> bytes:
        """What was read beyond the last reply."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def some(self, size: int = READ_BYTES) -> bytes:
        """At least one byte, straight from the network. Raises StoreUnavailableError when the server hangs up."""
        with self._answering():
            if self._gathers is not None:
                self._gather(self._gathers)
            data = self._socket.recv(size)
        if not data:
            raise StoreUnavailableError(f"{self.subject} closed the connection; see its log.")
        return data

    def wait(self, seconds: float) -> None:
        """How long the server may be silent from now on."""
        self._socket.settimeout(seconds)

    def gather(self) -> None:
        """From here on `some` waits a moment for GATHER_BYTES, for a server that sends much in small pieces.

        Each piece would cost a change between the processes, which is what a dump on few cores is slow by. Does nothing
        with TLS, whose layer takes records off the socket by itself.
        """
        if not isinstance(self._socket, ssl.SSLSocket):
            self._gathers = select.poll()
            self._gathers.register(self._socket, select.POLLIN)

    def _gather(self, poll: select.poll) -> None:
        """SO_RCVLOWAT (socket(7)) lets poll wait for so many bytes; recv must be asked without it, or it waits too."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, GATHER_BYTES)
        try:
            poll.poll(GATHER_MILLISECONDS)
        finally:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._buffer += self.some()
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailableError(unreachable_sentence(error, self.subject)) from error


def _connected(address: Address) -> socket.socket:
    connection = socket.create_connection((address.host, address.port), CONNECT_SECONDS)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.tls is not None:
            connection = address.tls.wrap_socket(connection, server_hostname=address.host)
        connection.settimeout(CALL_SECONDS)
    except BaseException:
        connection.close()
        raise
    return connection


def _packed(commands: Sequence[Sequence[Part | tuple[bytes, ...]]]) -> Iterator[bytes]:
    """Pieces of about READ_BYTES; a large one is not copied."""
    buffer = bytearray()
    for command in commands:
        buffer += b"*%d\r\n" % len(command)
        for part in command:
            pieces = part if isinstance(part, tuple) else (_bytes(part),)
            buffer += b"$%d\r\n" % sum(map(len, pieces))
            for piece in pieces:
                if len(piece) > READ_BYTES:
                    yield bytes(buffer)
                    buffer.clear()
                    yield piece
                else:
                    buffer += piece
            buffer += b"\r\n"
        if len(buffer) > READ_BYTES:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer)


def _bulk(part: Part) -> bytes:
    data = _bytes(part)
    return b"$%d\r\n%b\r\n" % (len(data), data)


def _bytes(part: Part) -> bytes:
    if isinstance(part, bytes):
        return part
    return part.encode() if isinstance(part, str) else b"%d" % part
