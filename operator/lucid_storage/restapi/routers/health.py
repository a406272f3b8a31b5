"""GET /database/health."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from lucid_storage.restapi.backend import StoreAccess
from lucid_storage.restapi.dependencies import Remembered, guarded_router, permitted, services_of
from lucid_storage.restapi.errors import ApiError, Code
from lucid_storage.restapi.schemas import DatabaseHealth, HealthStatus

router = guarded_router(Remembered)


@router.get("/database/health", response_model=DatabaseHealth, response_model_exclude_none=True)
async def database_health(
    request: Request, access: Annotated[StoreAccess, Depends(permitted("databases", "get"))]
) -> DatabaseHealth:
    health = await services_of(request).backend.health(access)
    if health.status is HealthStatus.UNHEALTHY:
        raise ApiError(
            503,
            "The data layer is unhealthy; details.services says which store and what to do.",
            code=Code.CONNECTION_FAILED,
            details=health.model_dump(mode="json", exclude_none=True),
        )
    return health
