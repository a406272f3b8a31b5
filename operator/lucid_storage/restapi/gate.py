"""What every request passes first and last: an id, a bound on work and time, and never a bare failure."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lucid_storage.restapi.clock import Clock
from lucid_storage.restapi.errors import ApiError, envelope, internal_error, timed_out
from lucid_storage.restapi.limits import Limits
from lucid_storage.restapi.operations import BASE_PATH

log = logging.getLogger(__name__)

Observer = Callable[[str, str, int, float], None]
"""Method, route (the pattern below the base path), status, seconds. For metrics; must not block."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CLOSE = (b"connection", b"close")


class Gate:
    """ASGI middleware. No request waits here: what is too much is refused at once."""

    def __init__(
        self, app: ASGIApp, *, limits: Limits, clock: Clock, observe: Observer | None = None
    ) -> None:
        self._app = app
        self._limits = limits
        self._clock = clock
        self._observe = observe
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = self._clock.monotonic()
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id, body_expected=_has_body(scope))
        self._running += 1
        try:
            await self._pass(scope, receive, answer, request_id)
        finally:
            self._running -= 1
            if self._observe is not None:
                route = str(getattr(scope.get("route"), "path", "unknown")).removeprefix(BASE_PATH)
                self._observe(_method(scope), route, answer.status, self._clock.monotonic() - started)

    async def _pass(self, scope: Scope, receive: Receive, answer: _Answer, request_id: str) -> None:
        try:
            self._check(scope)
            with _releasing(scope):
                async with asyncio.timeout(self._limits.request_seconds):
                    await self._app(scope, _bounded(receive, self._limits.body_bytes), answer.send)
                return
        except ApiError as error:
            failure = error
        except TimeoutError:
            failure = timed_out()
        except Exception:
            log.exception("request %s failed", request_id)
            failure = internal_error()
        if not answer.started:
            await envelope(failure, request_id, self._clock.now())(scope, receive, answer.send)

    def _check(self, scope: Scope) -> None:
        if self._running > self._limits.requests_at_once:
            raise ApiError(
                503, "Too many requests are running; try again in a second.", headers={"Retry-After": "1"}
            )
        if _declared_length(scope) > self._limits.body_bytes:
            raise too_large(self._limits.body_bytes)


class _Answer:
    """The sending side: adds the request's id, and ends the connection where a body may be left unread."""

    def __init__(self, send: Send, request_id: str, *, body_expected: bool) -> None:
        self._send = send
        self._headers = [(b"x-request-id", request_id.encode())] + ([_CLOSE] if body_expected else [])
        self.started = False
        self.status = 499

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
        await self._send(message)


class UserSlots:
    """Requests of each user that run now, so that nobody takes all the places."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._running: Counter[str] = Counter()

    def enter(self, user: str, scope: Scope) -> None:
        """Take a place until the request ends. Raises ApiError 429."""
        if self._running[user] >= self._at_once:
            raise ApiError(
                429,
                f"Send at most {self._at_once} requests at the same time; wait for one to end.",
                headers={"Retry-After": "1"},
            )
        self._running[user] += 1
        scope["state"]["release"] = lambda: self._leave(user)

    @contextmanager
    def holding(self, stranger: str, scope: Scope) -> Iterator[None]:
        """A place while somebody is being asked about. Raises ApiError 429."""
        self.enter(stranger, scope)
        try:
            yield
        finally:
            scope["state"].pop("release")()

    def _leave(self, user: str) -> None:
        self._running[user] -= 1
        if self._running[user] <= 0:
            del self._running[user]


def too_large(limit: int) -> ApiError:
    return ApiError(413, f"The request's body is larger than {limit} bytes; send a smaller one.")


@contextmanager
def _releasing(scope: Scope) -> Iterator[None]:
    try:
        yield
    finally:
        release = scope["state"].pop("release", None)
        if release is not None:
            release()


def _bounded(receive: Receive, limit: int) -> Receive:
    """Counts a body that came without its length."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise too_large(limit)
        return message

    return counted


def _method(scope: Scope) -> str:
    """Bounded: a caller can invent methods, and each would become a series of its own."""
    method = str(scope["method"])
    return method if method in _METHODS else "other"


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)


def _declared_length(scope: Scope) -> int:
    declared = _header(scope, b"content-length")
    return int(declared) if declared is not None and declared.isdigit() else 0


def _has_body(scope: Scope) -> bool:
    return _declared_length(scope) > 0 or _header(scope, b"transfer-encoding") is not None


def _request_id(scope: Scope) -> str:
    """The caller's own X-Request-ID where it is a UUID (the contract's format), else a new one."""
    given = _header(scope, b"x-request-id")
    if given is not None and len(given) == 36:
        try:
            return str(uuid.UUID(given.decode("ascii")))
        except ValueError:
            pass
    return str(uuid.uuid4())
