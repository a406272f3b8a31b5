"""The operations of the contracts that this version does not serve: each says so, to callers it knows."""

from __future__ import annotations

from collections.abc import Collection as Container

from fastapi import APIRouter, Request

from lucid_storage.restapi.dependencies import guarded_router
from lucid_storage.restapi.errors import ApiError
from lucid_storage.restapi.operations import OPERATIONS


def pending_router(served: Container[tuple[str, str]]) -> APIRouter:
    """Routes for every operation of the contracts that is not in `served`."""
    router = guarded_router()
    methods: dict[str, list[str]] = {}
    for method, path in OPERATIONS:
        if (method, path) not in served:
            methods.setdefault(path, []).append(method)
    # Fixed paths before those with a parameter, so that /backups/schedules is not taken for a backup's id.
    for path in sorted(methods, key=lambda path: [("{" in part, part) for part in path.split("/")]):
        router.add_api_route(path, _not_served, methods=methods[path], include_in_schema=False)
    return router


async def _not_served(request: Request) -> None:
    raise ApiError(
        501, f"This version of the operator does not serve {request.method} on this path; use kubectl for it."
    )
