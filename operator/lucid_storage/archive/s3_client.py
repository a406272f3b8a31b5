"""Signed requests to one bucket, for what obstore does not offer: uploads in parts that can be aborted and listed, and
listings of objects whose keys are not ours.

Every wait is bounded: connecting and each send or receive by a time-out, a request by a number of attempts.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import random
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from lucid_storage.archive.s3_errors import broken_way, code_in, refusal, worth_repeating
from lucid_storage.archive.signing import Credentials, encoded_path, encoded_query, signed
from lucid_storage.errors import DestinationError, Reason
from lucid_storage.models.storage import checked_endpoint, checked_region

Body = Sequence[bytes | memoryview]

ATTEMPTS: Final = 5
BACKOFF_SECONDS: Final = 0.3
"""Before the second attempt; doubled each time, with jitter."""
CONNECT_SECONDS: Final = 10.0
STALL_SECONDS: Final = 30.0
"""For each send and receive."""
_BLOCK = 256 * 1024
_ANSWER_BYTES = 8 * 1024 * 1024
"""A listing has up to 1,000 keys of 1,024 bytes, and XML can write a byte as six."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where requests go and as whom. Raises DestinationError(InvalidSpec) for what is no endpoint or region."""

    endpoint: str
    """http(s)://host[:port]; requests are in path style below it."""
    name: str
    region: str
    credentials: Credentials
    authority: str | None = None
    """Certificates in PEM that are trusted besides the system's."""
    stall_seconds: float = STALL_SECONDS
    attempts: int = ATTEMPTS

    def __post_init__(self) -> None:
        try:
            checked_region(self.region)  # first, since Amazon's endpoint is made of it
            checked_endpoint(self.endpoint)
        except ValueError as error:
            raise DestinationError(
                f"The bucket {self.name} cannot be reached: {error}; correct it.", reason=Reason.INVALID_SPEC
            ) from None

    @property
    def where(self) -> str:
        """For people."""
        return self.endpoint.rstrip("/")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return code_in(self.body)

    @property
    def etag(self) -> str:
        return self.headers.get("etag", "").strip('"')


class Connection:
    """One keep-alive connection, for one thread at a time; `interrupt` is for any."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._url = urlsplit(bucket.endpoint)
        self._proxy = _proxy(self._url)
        self._http: http.client.HTTPConnection | None = None
        self._interrupted = threading.Event()
        self.unanswered = False
        """A request went out whole and no answer came: whoever has it may carry it out later."""

    def interrupt(self) -> None:
        """Whatever runs ends now with DestinationError, and so does all that follows."""
        self._interrupted.set()
        connection = self._http
        if connection is not None and (sock := connection.sock) is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None

    def request(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        body: Body = (),
        headers: Mapping[str, str] | None = None,
        accept: Callable[[Answer], bool] = lambda answer: 200 <= answer.status < 300,
    ) -> Answer:
        """The first answer that is accepted. Raises DestinationError after as many attempts as are worth it."""
        digest = hashlib.sha256()
        for piece in body:
            digest.update(piece)
        for attempt in range(1, self._bucket.attempts + 1):
            if self._interrupted.is_set():
                raise DestinationError("The request was given up.")
            try:
                answer = self._once(method, key, query or {}, body, headers or {}, digest.hexdigest())
            except (OSError, http.client.HTTPException) as error:
                self.close()
                failure: DestinationError = broken_way(self._bucket.where, error)
                again = not isinstance(error, ssl.SSLCertVerificationError)
            else:
                if accept(answer):
                    return answer
                failure = refusal(self._bucket.where, self._bucket.name, answer.status, answer.code)
                # A 200 that holds an error is one of CompleteMultipartUpload, to be tried again.
                again = answer.status == 200 or worth_repeating(answer.status, answer.code)
            if not again or attempt == self._bucket.attempts:
                raise failure
            self._interrupted.wait(BACKOFF_SECONDS * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))  # noqa: S311
        raise AssertionError

    def _once(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        body: Body,
        headers: Mapping[str, str],
        digest: str,
    ) -> Answer:
        connection = self._connected()
        path = f"/{self._bucket.name}" + (f"/{key}" if key else "")
        own = {**headers, "host": self._url.netloc, "content-length": str(sum(len(piece) for piece in body))}
        bucket = self._bucket
        complete = signed(
            bucket.credentials, bucket.region, method, path, query, own, digest, datetime.now(UTC)
        )
        target = encoded_path(path) + (f"?{encoded_query(query)}" if query else "")
        if self._proxy is not None and self._url.scheme == "http":
            target = f"http://{self._url.netloc}{target}"
            complete |= _login(self._proxy)
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in complete.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = self._sent(connection, body)
        content = response.read(_ANSWER_BYTES)
        if not response.isclosed() or response.will_close:
            self.close()
        return Answer(response.status, {n.lower(): v for n, v in response.getheaders()}, content)

    def _sent(self, connection: http.client.HTTPConnection, body: Body) -> http.client.HTTPResponse:
        try:
            for piece in body:
                with memoryview(piece) as view:
                    # In blocks, for the time-out of a socket is one for all that is given to it at once.
                    for start in range(0, len(view), _BLOCK):
                        connection.send(view[start : start + _BLOCK])
        except (BrokenPipeError, ConnectionResetError) as error:
            # A server that refuses may answer and close before it has read the body.
            try:
                return connection.getresponse()
            except (OSError, http.client.HTTPException):
                raise error from None
        try:
            return connection.getresponse()
        except (OSError, http.client.HTTPException):
            self.unanswered = True
            raise

    def _connected(self) -> http.client.HTTPConnection:
        if self._http is None:
            patience = min(CONNECT_SECONDS, self._bucket.stall_seconds)
            first = self._proxy or self._url
            host, port = first.hostname or "", first.port
            if self._url.scheme == "https":
                context = _trusting(self._bucket.authority)
                self._http = http.client.HTTPSConnection(host, port, timeout=patience, context=context)
                if self._proxy is not None:
                    self._http.set_tunnel(self._url.hostname or "", self._url.port, _login(self._proxy))
            else:
                self._http = http.client.HTTPConnection(host, port, timeout=patience)
        if self._http.sock is None:
            self._http.connect()
            _set_timeout(self._http, self._bucket.stall_seconds)
            if self._interrupted.is_set():
                raise ConnectionAbortedError(errno.ECONNABORTED, "The request was given up")
        return self._http


def _proxy(url: SplitResult) -> SplitResult | None:
    """The one that HTTPS_PROXY and its like name for this address, where NO_PROXY does not except it (obstore too)."""
    named = None if proxy_bypass(url.hostname or "") else getproxies().get(url.scheme)
    return urlsplit(named if "://" in named else f"http://{named}") if named else None


def _login(proxy: SplitResult) -> dict[str, str]:
    """For the proxy, where its address holds one."""
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"proxy-authorization": f"Basic {b64encode(pair.encode()).decode()}"}


@lru_cache(maxsize=4)
def _trusting(authority: str | None) -> ssl.SSLContext:
    """Reading the system's certificates takes as long as many requests: they are read once."""
    context = ssl.create_default_context()
    if authority is not None:
        context.load_verify_locations(cadata=authority)
    return context


def _set_timeout(connection: http.client.HTTPConnection, seconds: float) -> None:
    if connection.sock is not None:
        connection.sock.settimeout(seconds)
