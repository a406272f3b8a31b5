"""GET /database/stats."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from lucid_storage.restapi.backend import StoreAccess
from lucid_storage.restapi.dependencies import Remembered, guarded_router, permitted, services_of
from lucid_storage.restapi.schemas import DatabaseStats

router = guarded_router(Remembered)


@router.get("/database/stats", response_model=DatabaseStats, response_model_exclude_none=True)
async def database_stats(
    request: Request, access: Annotated[StoreAccess, Depends(permitted("databases", "get"))]
) -> DatabaseStats:
    return await services_of(request).backend.stats(access)
