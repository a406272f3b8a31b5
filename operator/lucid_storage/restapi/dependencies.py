"""What every route asks first, who calls; and what it declares to need: permission, namespace, database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.routing import APIRoute

from lucid_storage.errors import NotAllowedError, Reason
from lucid_storage.kube.authz import Identity, Permission
from lucid_storage.models.meta import RESERVED_DATABASES
from lucid_storage.restapi.auth import Auth
from lucid_storage.restapi.backend import Backend, StoreAccess
from lucid_storage.restapi.caching import SharedReads
from lucid_storage.restapi.errors import ApiError
from lucid_storage.restapi.gate import UserSlots
from lucid_storage.restapi.limits import Limits
from lucid_storage.restapi.operations import group_of
from lucid_storage.restapi.ratelimit import RateLimiter

Answering = Callable[[Request], Awaitable[Response]]
DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"


@dataclass(frozen=True, slots=True)
class Services:
    """What one app works with; held in `app.state.services`."""

    backend: Backend
    auth: Auth
    limits: Limits
    rates: RateLimiter
    slots: UserSlots
    strangers: UserSlots
    answers: SharedReads[tuple[Identity, str], Response]
    """By caller and URL, of the routes that are `Remembered`."""
    namespace: str
    """The operator's own: where calls without `?namespace=` go."""


def services_of(request: Request) -> Services:
    return cast("Services", request.app.state.services)


async def identify(request: Request) -> Identity:
    """The caller, within their rate. Raises ApiError 401, 429, 503."""
    services = services_of(request)
    identity = services.auth.known(request.headers) or await _ask_about(request, services)
    group = group_of(request.url.path)
    _refuse_for(
        services.rates.take((group, identity.user), services.limits.rates[group]), f"{group} requests"
    )
    services.slots.enter(identity.user, request.scope)
    return identity


async def _ask_about(request: Request, services: Services) -> Identity:
    """Somebody new. What their address may cost is bounded; known callers behind it are not held up."""
    address = request.client.host if request.client is not None else ""
    failures, rate = ("failed", address), services.limits.failed_logins
    _refuse_for(services.rates.take(failures, rate), "failed logins from your address")
    try:
        with services.strangers.holding(address, request.scope):
            identity = await services.auth.identify(request.headers)
    except ApiError as error:
        if error.status != 401:
            services.rates.give_back(failures, rate)
        raise
    services.rates.give_back(failures, rate)
    return identity


class Guarded(APIRoute):
    """A route that asks for the caller before any parameter is looked at.

    Not a dependency: FastAPI validates the parameters of all dependencies together, and each level of them costs the
    API's thread as much as everything else in an answer.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            request.state.caller = await identify(request)
            return await self.answered(request, answer)

        return guarded

    async def answered(self, request: Request, answer: Answering) -> Response:
        """The answer for the caller that was found."""
        return await answer(request)


class Remembered(Guarded):
    """A guarded route of figures that are seconds old anyway: a caller gets the same answer again for a second."""

    async def answered(self, request: Request, answer: Answering) -> Response:
        answers = services_of(request).answers
        asked: tuple[Identity, str] = request.state.caller, str(request.url)
        known = answers.held(asked)
        if known is not None:
            return known
        found = await answer(request)
        answers.keep(asked, found)
        return found


def guarded_router(route: type[Guarded] = Guarded) -> APIRouter:
    """A router whose routes all ask for the caller first."""
    return APIRouter(route_class=route)


NamespaceParameter = Annotated[
    str | None, Query(alias="namespace", pattern=DNS_LABEL, description="Default: the operator's own.")
]
DatabaseParameter = Annotated[str | None, Query(alias="database", min_length=1, max_length=63)]
CollectionName = Annotated[str, Path(min_length=1, max_length=100)]


def permitted(resource: str, verb: str) -> Callable[..., Awaitable[StoreAccess]]:
    """A dependency: the caller may `verb` `resource` in the namespace, which the operator serves."""

    async def check(request: Request, namespace: NamespaceParameter = None) -> StoreAccess:
        services = services_of(request)
        target = namespace or services.namespace
        await services.auth.authorize(request.state.caller, Permission(target, resource, verb))
        return await services.backend.store_access(target)

    return check


def checked_database(access: StoreAccess, database: str | None) -> str | None:
    """The database asked for. Raises NotAllowedError where the namespace may not see it."""
    if database is not None and (database in RESERVED_DATABASES or not access.allows(database)):
        raise NotAllowedError(
            f"Namespace {access.namespace} may not use the database {database}; it may use "
            f"{', '.join(access.databases)}.",
            reason=Reason.DATABASE_NOT_ALLOWED,
        )
    return database


def target_database(access: StoreAccess, database: str | None) -> str:
    """The database asked for, or the default one. Raises NotAllowedError; ApiError 422 when there is none."""
    chosen = checked_database(access, database or access.default_database)
    if chosen is None:
        raise ApiError(422, "Name the database with ?database=; the operator has no MONGODB_DATABASE set.")
    return chosen


def _refuse_for(seconds: int, what: str) -> None:
    if seconds:
        raise ApiError(
            429, f"Too many {what}; try again in {seconds} s.", headers={"Retry-After": str(seconds)}
        )
