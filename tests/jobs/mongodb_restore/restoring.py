"""The restore worker without its process: quick, and what it raises can be looked at."""

from typing import Any

from workshop import Workshop

from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.restore import restore
from lucid_storage.jobs.worker import Stop
from lucid_storage.models.orders import RestoreOrder, RestoreResult


def restored(shop: Workshop, backup: str, **asked: Any) -> RestoreResult:
    """Raises LucidError."""
    order = {**shop.order("back", ["mongodb"]), "backupId": backup, **asked}
    del order["id"], order["type"]
    return restore(RestoreOrder.model_validate(order), shop.here(), Reporter(), Stop())
