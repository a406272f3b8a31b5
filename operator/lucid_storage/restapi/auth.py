"""Who calls and whether they may: Bearer tokens and API keys, from a short cache or the API server."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from starlette.datastructures import Headers

from lucid_storage.kube.authz import (
    API_KEY_BYTES,
    AccessReviews,
    ApiKeyEntry,
    Identity,
    Permission,
    find_api_key,
)
from lucid_storage.kube.client import KubeApiError
from lucid_storage.restapi.caching import SharedReads
from lucid_storage.restapi.clock import Clock
from lucid_storage.restapi.errors import ApiError

T = TypeVar("T")

YES_SECONDS = 60.0
NO_SECONDS = 5.0
CACHED = 4096
TOKEN_BYTES = 12_000
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="lucid-storage"'}


@dataclass(frozen=True, slots=True)
class ApiKeySecret:
    """Where the hashed API keys are."""

    namespace: str
    name: str


def unauthenticated(message: str) -> ApiError:
    return ApiError(401, message, headers=_CHALLENGE)


class Auth:
    """Asks through `connect`, which is called once, in the event loop of the REST API.

    An accepted token or permission is trusted for 60 s, a refusal for 5 s. Tokens are kept as SHA-256 only.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[AccessReviews]],
        *,
        api_keys: ApiKeySecret | None = None,
        clock: Clock | None = None,
    ) -> None:
        monotonic = (clock or Clock()).monotonic
        self._connect = connect
        self._api_key_secret = api_keys
        self._connecting = asyncio.Lock()
        self._connected: AccessReviews | None = None
        self._identities: SharedReads[bytes, Identity | None] = SharedReads(
            capacity=CACHED,
            monotonic=monotonic,
            seconds=lambda found: NO_SECONDS if found is None else YES_SECONDS,
        )
        self._decisions: SharedReads[tuple[Identity, Permission], bool] = SharedReads(
            capacity=CACHED,
            monotonic=monotonic,
            seconds=lambda allowed: YES_SECONDS if allowed else NO_SECONDS,
        )
        self._keys: SharedReads[ApiKeySecret, tuple[ApiKeyEntry, ...]] = SharedReads(
            capacity=1, monotonic=monotonic, seconds=lambda found: YES_SECONDS if found else NO_SECONDS
        )

    def known(self, headers: Headers) -> Identity | None:
        """The caller where a short time ago they were accepted; asks nobody."""
        authorization, key = headers.get("authorization"), headers.get("x-api-key")
        if authorization is not None:
            return self._identities.held(_digest(_token(authorization)))
        if key is not None and self._api_key_secret is not None and 0 < len(key) <= API_KEY_BYTES:
            entry = find_api_key(self._keys.held(self._api_key_secret) or (), key.encode())
            return None if entry is None else entry.identity()
        return None

    async def identify(self, headers: Headers) -> Identity:
        """The caller. Raises ApiError 401, or 503 when the API server cannot be asked."""
        authorization, key = headers.get("authorization"), headers.get("x-api-key")
        if authorization is not None:
            identity = await self._of_token(authorization)
        elif key is not None:
            identity = await self._of_key(key)
        else:
            raise unauthenticated(
                "Send a Kubernetes token as 'Authorization: Bearer <token>', or an X-API-Key."
            )
        if identity is None:
            raise unauthenticated("The token or API key is not accepted; get a new one.")
        return identity

    async def authorize(self, identity: Identity, permission: Permission) -> None:
        """Raises ApiError 403, or 503 when the API server cannot be asked."""
        reviews = await self._reviews()
        with_answer = self._decisions.get(
            (identity, permission), lambda: reviews.allows(identity, permission)
        )
        if not await _asked(with_answer):
            raise ApiError(
                403,
                f"{identity.user} may not {permission.verb} {permission.resource}.{permission.group} in "
                f"namespace {permission.namespace}; grant it with a Role and a RoleBinding.",
            )

    async def close(self) -> None:
        for cache in (self._identities, self._decisions, self._keys):
            await cache.close()
        if self._connected is not None:
            await self._connected.close()
            self._connected = None

    async def _of_token(self, authorization: str) -> Identity | None:
        token = _token(authorization)
        reviews = await self._reviews()
        return await _asked(self._identities.get(_digest(token), lambda: reviews.identify(token)))

    async def _of_key(self, key: str) -> Identity | None:
        secret = self._api_key_secret
        if secret is None:
            raise unauthenticated("API keys are not set up here; send a Kubernetes token as Bearer.")
        if not 0 < len(key) <= API_KEY_BYTES:
            return None
        reviews = await self._reviews()
        entries = await _asked(
            self._keys.get(secret, lambda: reviews.api_keys(secret.namespace, secret.name))
        )
        entry = find_api_key(entries, key.encode())
        return None if entry is None else entry.identity()

    async def _reviews(self) -> AccessReviews:
        if self._connected is None:
            async with self._connecting:
                if self._connected is None:
                    self._connected = await self._connect()
        return self._connected


def _token(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > TOKEN_BYTES:
        raise unauthenticated("The Authorization header is not usable; send 'Bearer <token>'.")
    return token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


async def _asked(answer: Awaitable[T]) -> T:
    try:
        return await answer
    except KubeApiError as error:
        if error.status in {401, 403}:
            message = (
                "The operator may not ask the Kubernetes API server about callers; bind its ServiceAccount "
                "to the ClusterRole system:auth-delegator."
            )
        else:
            message = "The Kubernetes API server cannot be asked about callers now; try again later."
        raise ApiError(503, message, headers={"Retry-After": "5"}) from error
