"""Requests to one Elasticsearch whose answers stay bytes: what is decoded is what somebody asks for.

The official client decodes whole answers (a Python float would damage 1e400 or a long number with a fraction) and takes
25 MiB when it is imported; a worker has 128. So this speaks HTTP by the standard library, one connection a thread.
"""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from ssl import create_default_context
from time import monotonic
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.stores.elasticsearch.answers import kind_and_sentence, refusal, unreachable

REQUEST_SECONDS = 60.0
"""Of silence, after which an answer is given up."""
ANSWER_BYTES = 64 * 1024 * 1024
"""Of one answer: the mappings of thousands of indices take less."""
PATIENCE_SECONDS = 60.0
"""For how long a request that may be sent again is, while the server is away or overloaded."""
_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)
BUSY = 429
_PASSING = frozenset({BUSY, 502, 503, 504})
_READ = 256 * 1024

Parameters = Mapping[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came."""

    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Decoded; None where it is no JSON or nested too deep. For what is no user's data: floats lose digits."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def kind(self) -> str:
        """The server's name of its refusal, such as index_not_found_exception."""
        return kind_and_sentence(self.json())[0]


class TooLargeError(Exception):
    """An answer has more bytes than were allowed; fewer documents have to be asked for."""


class ElasticHttp:
    """One cluster behind one URL, for several threads.

    `subject` begins the sentences about it: label, host and port, never the login. `pause` waits for so many seconds
    and raises when the run is to end. Raises RefusedError(SecretInvalid) when the URL or the CA cannot be used.
    """

    def __init__(
        self,
        url: str,
        label: str,
        pause: Callable[[float], None],
        *,
        ca_path: str | None = None,
        patience: float | None = None,
    ) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
            if parts.scheme not in {"http", "https"} or not host:
                raise _unusable(label)
            host.encode("idna")  # or the resolver's error would be no OSError
            self._context = create_default_context(cafile=ca_path) if parts.scheme == "https" else None
        except (ValueError, OSError) as error:
            raise _unusable(label) from error
        self._host = host
        self._port = port or (443 if self._context else 9200)
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Accept": "application/json", "Connection": "keep-alive"}
        if parts.username:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
        self.subject = f"Elasticsearch ({label}) at {f'[{host}]' if ':' in host else host}:{self._port}"
        self.patience = PATIENCE_SECONDS if patience is None else patience
        self.pause = pause
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: set[HTTPConnection] = set()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, Any] | None = None,
        parameters: Parameters | None = None,
        *,
        repeatable: bool = True,
        busy_is_answer: bool = False,
        largest: int = ANSWER_BYTES,
        content_type: str = "application/json",
        seconds: float = REQUEST_SECONDS,
    ) -> Answer:
        """The answer, whatever its status. `path` is encoded already.

        With `repeatable` the request is sent again while the server is away or overloaded, for up to `patience`
        seconds; with `busy_is_answer` the caller waits for a busy server (429) itself. Raises StoreUnavailableError
        when there is no answer, and TooLargeError.
        """
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        target = self._prefix + path + ("?" + urlencode(_texts(parameters)) if parameters else "")
        headers = self._headers if data is None else {**self._headers, "Content-Type": content_type}
        if not repeatable:
            self._forget()
        begun, tries = monotonic(), 0
        while True:
            try:
                answer = self._once(method, target, data, headers, largest, seconds)
                if answer.status not in _PASSING or (busy_is_answer and answer.status == BUSY):
                    return answer
                lost: LucidError | None = None
            except (OSError, HTTPException) as error:
                answer, lost = None, unreachable(_causes(error), self.subject)
            over = monotonic() - begun >= self.patience
            if not repeatable or over or (answer is not None and not _may_pass(answer)):
                if answer is not None:
                    return answer
                assert lost is not None
                raise lost
            self.pause(_PAUSES[min(tries, len(_PAUSES) - 1)])
            tries += 1

    def must(
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, Any] | None = None,
        parameters: Parameters | None = None,
        **options: Any,
    ) -> Answer:
        """As `ask`, and raises the LucidError that a refusal means."""
        answer = self.ask(method, path, body, parameters, **options)
        if not answer.ok:
            raise self.refused(answer)
        return answer

    def refused(self, answer: Answer) -> LucidError:
        """What a refusal means in our words."""
        return refusal(answer.status, answer.json(), self.subject)

    def _once(
        self,
        method: str,
        target: str,
        data: bytes | None,
        headers: Mapping[str, str],
        largest: int,
        seconds: float,
    ) -> Answer:
        connection = self._connection(seconds)
        whole = False
        try:
            try:
                connection.request(method, target, data, dict(headers))
                sent = True
            except (BrokenPipeError, ConnectionResetError):
                sent = False  # a server that refuses a large body answers before it was sent whole
            with connection.getresponse() as response:
                answer = Answer(response.status, _bounded(response, largest))
            whole = sent
            return answer
        finally:
            if not whole:
                self._drop(connection)

    def _connection(self, seconds: float) -> HTTPConnection:
        connection: HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = (
                HTTPSConnection(self._host, self._port, timeout=seconds, context=self._context)
                if self._context
                else HTTPConnection(self._host, self._port, timeout=seconds)
            )
            self._local.connection = connection
            with self._lock:
                self._open.add(connection)
        connection.timeout = seconds
        if connection.sock is not None:
            connection.sock.settimeout(seconds)
        return connection

    def _drop(self, connection: HTTPConnection) -> None:
        connection.close()
        self._local.connection = None
        with self._lock:
            self._open.discard(connection)

    def _forget(self) -> None:
        """A connection that was idle may be dead, which only a repeatable request may find out."""
        connection: HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is not None:
            self._drop(connection)

    def close(self) -> None:
        """Ends the connections of all threads."""
        with self._lock:
            connections, self._open = self._open, set()
        for connection in connections:
            connection.close()


def encoded(name: str) -> str:
    """A name as one segment of a path. Raises LucidError(InvalidSpec) for one that stands for several things."""
    if not name or name in {".", "..", "_all"} or any(sign in name for sign in "*?,"):
        raise RefusedError(
            f"The name {name[:100]!r} is empty or stands for several in Elasticsearch; it cannot be used here.",
            reason=Reason.INVALID_SPEC,
        )
    return quote(name, safe="")


def _may_pass(answer: Answer) -> bool:
    """503 is also the answer for shards that are gone and for blocks; only what asks for patience is repeated."""
    return answer.status != 503 or answer.kind in {
        "",
        "cluster_block_exception",
        "master_not_discovered_exception",
        "process_cluster_event_timeout_exception",
    }


def _bounded(response: HTTPResponse, largest: int) -> bytes:
    if (response.length or 0) > largest:
        raise TooLargeError
    pieces = bytearray()
    while piece := response.read(_READ):
        pieces += piece
        if len(pieces) > largest:
            raise TooLargeError
    return bytes(pieces)


def _texts(parameters: Parameters) -> dict[str, str]:
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in parameters.items()
    }


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


def _unusable(label: str) -> RefusedError:
    return RefusedError(
        f"The connection of Elasticsearch ({label}) cannot be used; write https://user:password@host:port "
        "with special characters of the password percent-encoded, and check the CA file.",
        reason=Reason.SECRET_INVALID,
    )
