"""What a restore worker tells of its work, short enough for a termination message."""

from __future__ import annotations

from datetime import UTC, datetime

from lucid_storage.archive.recorded import Recorded
from lucid_storage.errors import Reason
from lucid_storage.jobs.mongodb_restore import MongoStaged
from lucid_storage.jobs.mongodb_restore_plan import MongoPlan
from lucid_storage.models.orders import RestoreOrder, RestorePlanned, RestoreResult

TOLD_USERS = 15
"""Users that fit a termination message beside the rest."""


def failed(order: RestoreOrder, reason: Reason, message: str) -> RestoreResult:
    """A result that says why nothing was restored."""
    return RestoreResult(run=order.run, ok=False, reason=reason, message=message)


def with_staged(result: RestoreResult, staged: MongoStaged) -> RestoreResult:
    return result.model_copy(
        update={
            "databases": staged.databases,
            "loaded_bytes": staged.bytes,
            "loaded_documents": staged.documents,
            "replayed_operations": staged.operations,
            "collections": staged.collections,
            "expiring_documents": staged.expiring,
            "skipped_users": _some_users(staged.skipped_users),
        }
    )


def _some_users(skipped: tuple[str, ...]) -> tuple[str, ...]:
    """As many as fit a termination message; more are counted."""
    told = tuple(one[:100] for one in skipped[:TOLD_USERS])
    left = len(skipped) - len(told)
    return (*told, f"and {left} more") if left else told


def result_of(
    order: RestoreOrder, wanted: Recorded, plan: MongoPlan | None, planned: RestorePlanned | None
) -> RestoreResult:
    moment = datetime.fromtimestamp(plan.until[0], UTC) if plan is not None else order.point_in_time
    return RestoreResult(
        run=order.run,
        ok=True,
        message="Planned." if order.plan_only else "Staged and compared; ready to be swapped.",
        plan=planned,
        backup_id=order.backup_id,
        timeline=wanted.manifest.timeline,
        restored_to=moment,
        databases=plan.databases if plan is not None else (),
        collections=len(plan.records) if plan is not None else 0,
    )
