"""The marker of a restore in the destination (rule 2.10).

The target server has a marker too, and that one alone proves that a restore was done. When only this one is there, the
server was restored once and does not remember, or is none that keeps markers (Redis, Elasticsearch): a person decides
then. On another server the restore runs, since that is what it is for. It is left when everything is staged and before
the swap, which is the operator's: so it says that a restore may have been done, not that it was.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

from pydantic import ValidationError

from lucid_storage.archive.destination import ObjectStore
from lucid_storage.archive.layout import restore_marker
from lucid_storage.archive.manifest import Record
from lucid_storage.errors import DestinationError, Reason, RefusedError
from lucid_storage.kinds.identity import same_server
from lucid_storage.models.meta import RUN_AGAIN
from lucid_storage.models.orders import RestoreOrder

logger = logging.getLogger(__name__)


class RestoreMarker(Record):
    """What was restored, by whom and into which servers."""

    cluster: str
    namespace: str
    name: str
    spec_hash: str
    run: str
    run_again: str = ""
    servers: dict[str, str]
    """Engine and the server's identity."""
    left_at: datetime


def redis_identity(url: str) -> str:
    """Of a Redis: it has no id that lasts, so host and port stand for it, hashed since they say more than is needed."""
    parts = urlsplit(url)
    address = f"{parts.hostname or ''}:{parts.port or 6379}{parts.path}"
    return hashlib.sha256(address.encode()).hexdigest()[:32]


def refuse_done(store: ObjectStore, order: RestoreOrder, servers: Mapping[str, str]) -> None:
    """Raises RefusedError(RunAgainNeeded) when this restore was carried out here before and nobody asks for another."""
    found = _read(store, order)
    if found is None or found.run == order.run or found.spec_hash != order.owner.spec_hash:
        return
    if order.run_again and found.run_again != order.run_again:
        return
    same = [e for e, was in found.servers.items() if e in servers and same_server(was, servers[e])]
    if not same:
        return
    raise RefusedError(
        f"This restore was carried out on {found.left_at:%Y-%m-%d} by its marker in the destination, and"
        f" {' and '.join(sorted(same))} has no marker of it. To restore again, set the annotation {RUN_AGAIN} to a new"
        " value.",
        reason=Reason.RUN_AGAIN_NEEDED,
    )


def leave(store: ObjectStore, order: RestoreOrder, servers: Mapping[str, str]) -> None:
    """Leave the marker. A destination that is read-only is allowed: there is none then."""
    owner = order.owner
    marker = RestoreMarker(
        cluster=owner.cluster,
        namespace=owner.namespace,
        name=owner.name,
        spec_hash=owner.spec_hash,
        run=order.run,
        run_again=order.run_again,
        servers=dict(servers),
        left_at=datetime.now(UTC).replace(microsecond=0),
    )
    try:
        store.put(_path(order), marker.model_dump_json(by_alias=True).encode())
    except DestinationError as error:
        logger.warning("no marker of this restore is left in the destination: %s", error.message)


def _read(store: ObjectStore, order: RestoreOrder) -> RestoreMarker | None:
    data = store.get(_path(order))
    if data is None:
        return None
    try:
        return RestoreMarker.model_validate_json(data)
    except ValidationError:
        logger.warning(
            "the marker of this restore in the destination cannot be read and is left out of account"
        )
        return None


def _path(order: RestoreOrder) -> str:
    return restore_marker(order.destination.root, order.owner.namespace, order.owner.name)
