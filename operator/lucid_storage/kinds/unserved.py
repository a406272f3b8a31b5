"""Kinds whose API is settled but that this version does not reconcile: it says so instead of staying silent."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from lucid_storage.errors import Reason
from lucid_storage.kinds import conditions
from lucid_storage.kinds.contract import Verdict
from lucid_storage.kube.resources import Resource
from lucid_storage.kube.status import StatusWriter
from lucid_storage.models.base import KindStatus

logger = logging.getLogger(__name__)


async def tell_unserved(writer: StatusWriter, resource: Resource, kind: str) -> None:
    """Write the one condition, once for each generation. Raises KubeApiError."""
    status = KindStatus.model_validate(resource.status)
    said = f"This version of the operator does not reconcile {kind} yet; nothing was done. Nothing is lost: keep it."
    status.observed_generation = resource.generation
    status.conditions = conditions.build(
        status.conditions or [],
        generation=resource.generation,
        now=datetime.now(UTC),
        verdict=Verdict(Reason.NOT_IMPLEMENTED, said, stalled=True),
        message="",
    )
    await writer.write(resource, {**resource.status, **status.to_dict()})
