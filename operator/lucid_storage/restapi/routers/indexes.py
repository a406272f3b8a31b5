"""GET /database/collections/{collection_name}/indexes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from lucid_storage.restapi.backend import StoreAccess
from lucid_storage.restapi.dependencies import (
    CollectionName,
    DatabaseParameter,
    guarded_router,
    permitted,
    services_of,
    target_database,
)
from lucid_storage.restapi.routers.collections import collection_not_found
from lucid_storage.restapi.schemas import IndexList

router = guarded_router()


@router.get(
    "/database/collections/{collection_name}/indexes",
    response_model=IndexList,
    response_model_exclude_none=True,
)
async def list_indexes(
    request: Request,
    access: Annotated[StoreAccess, Depends(permitted("indexes", "list"))],
    collection_name: CollectionName,
    database: DatabaseParameter = None,
) -> IndexList:
    chosen = target_database(access, database)
    found = await services_of(request).backend.indexes(access, chosen, collection_name)
    if found is None:
        raise collection_not_found(chosen, collection_name)
    return IndexList(indexes=list(found))
