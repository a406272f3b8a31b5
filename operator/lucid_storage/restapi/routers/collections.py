"""GET /database/collections and /database/collections/{collection_name}."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request

from lucid_storage.restapi.backend import StoreAccess
from lucid_storage.restapi.dependencies import (
    CollectionName,
    DatabaseParameter,
    checked_database,
    guarded_router,
    permitted,
    services_of,
    target_database,
)
from lucid_storage.restapi.errors import ApiError, Code
from lucid_storage.restapi.schemas import Collection, CollectionList, Pagination

MAX_PAGE = 100
router = guarded_router()


@router.get("/database/collections", response_model=CollectionList, response_model_exclude_none=True)
async def list_collections(
    request: Request,
    access: Annotated[StoreAccess, Depends(permitted("collections", "list"))],
    database: DatabaseParameter = None,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
) -> CollectionList:
    chosen = checked_database(access, database)
    found = await services_of(request).backend.collections(access, chosen, (page - 1) * limit, limit)
    return CollectionList(
        collections=list(found.collections),
        pagination=Pagination(page=page, limit=limit, total=found.total, pages=-(-found.total // limit)),
    )


@router.get(
    "/database/collections/{collection_name}", response_model=Collection, response_model_exclude_none=True
)
async def get_collection(
    request: Request,
    access: Annotated[StoreAccess, Depends(permitted("collections", "get"))],
    collection_name: CollectionName,
    database: DatabaseParameter = None,
) -> Collection:
    chosen = target_database(access, database)
    found = await services_of(request).backend.collection(access, chosen, collection_name)
    if found is None:
        raise collection_not_found(chosen, collection_name)
    return found


def collection_not_found(database: str, name: str) -> ApiError:
    return ApiError(
        404,
        f"There is no collection {name} in database {database}; name another one with ?database=.",
        code=Code.COLLECTION_NOT_FOUND,
    )
