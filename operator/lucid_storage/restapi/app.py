"""The application: routes, errors and bounds put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.routing import BaseRoute, Route

from lucid_storage.restapi.auth import Auth
from lucid_storage.restapi.backend import Backend
from lucid_storage.restapi.caching import SharedReads
from lucid_storage.restapi.clock import Clock
from lucid_storage.restapi.dependencies import Services
from lucid_storage.restapi.errors import install_error_handlers
from lucid_storage.restapi.gate import Gate, Observer, UserSlots
from lucid_storage.restapi.limits import Limits
from lucid_storage.restapi.operations import BASE_PATH
from lucid_storage.restapi.ratelimit import RateLimiter
from lucid_storage.restapi.routers import collections, health, indexes, stats
from lucid_storage.restapi.routers.pending import pending_router


def create_app(
    backend: Backend,
    auth: Auth,
    *,
    namespace: str,
    clock: Clock | None = None,
    limits: Limits | None = None,
    observe: Observer | None = None,
) -> FastAPI:
    """The REST API over `backend`, closed with it as `auth` is. `namespace` is the operator's own."""
    clock, limits = clock or Clock(), limits or Limits()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await backend.close()
        await auth.close()

    app = FastAPI(
        title="Lucid Storage Database API",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.services = Services(
        backend=backend,
        auth=auth,
        limits=limits,
        rates=RateLimiter(capacity=limits.buckets, monotonic=clock.monotonic),
        slots=UserSlots(limits.requests_at_once_per_user),
        strangers=UserSlots(limits.strangers_at_once),
        answers=SharedReads(
            capacity=limits.answers, monotonic=clock.monotonic, seconds=limits.answer_seconds
        ),
        namespace=namespace,
    )
    served = [health.router, stats.router, collections.router, indexes.router]
    pending = pending_router(_operations([route for router in served for route in router.routes]))
    for router in (*served, pending):
        app.include_router(router, prefix=BASE_PATH)
    install_error_handlers(app, clock)
    app.add_middleware(Gate, limits=limits, clock=clock, observe=observe)
    return app


def _operations(routes: list[BaseRoute]) -> set[tuple[str, str]]:
    return {
        (method, route.path) for route in routes if isinstance(route, Route) for method in route.methods or ()
    }
