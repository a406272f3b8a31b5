"""What one should know before a restore of MongoDB runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lucid_storage.archive.manifest import CollectionRecord
from lucid_storage.archive.mongodump import Prelude
from lucid_storage.jobs.mongodb_restore_targets import some
from lucid_storage.models.orders import RestoreOrder
from lucid_storage.stores.mongodb.restore.catalog import Name, stageable
from lucid_storage.stores.mongodb.restore.expiring import Expired, Expiring
from lucid_storage.stores.mongodb.restore.view_reach import beyond


def warnings_of(
    order: RestoreOrder, prelude: Prelude, records: Sequence[CollectionRecord]
) -> tuple[str, ...]:
    """Sentences for people."""
    chosen = {(record.database, record.name) for record in records}
    entries = [e for e in prelude.collections if tuple(e.namespace) in chosen]
    found = list(_IN_PLACE[order.drop_existing]) if order.in_place else []
    direct = sorted(
        str(e.namespace)
        for e in entries
        if e.type == "timeseries"
        or (e.type != "view" and not stageable(e.namespace.collection, e.options or {}))
    )
    if direct and not order.in_place:
        found.append(
            f"Loaded under their own name before the swap, since they cannot be renamed: {some(direct)}."
        )
    reaching = [str(e.namespace) for e in entries if e.type == "view" and _reaches(e.options or {})]
    if reaching:
        found.append(f"Left out, since they may read another database: the views {some(reaching)}.")
    if len(records) > 1 and not order.in_place:
        found.append("Collections are swapped one after another; the swap is not atomic over all of them.")
    if not order.in_place or order.drop_existing:
        found.append("Change streams on replaced collections end with the swap.")
    if order.users_and_roles:
        found.append(
            "Users and roles come last; those that are there, the operator's own and root users stay."
        )
    if order.collections:
        found.append("Transactions are restored as far as they wrote the chosen collections.")
    return tuple(found)


def _reaches(view: Mapping[str, object]) -> bool:
    return beyond(view.get("pipeline", ())) is not None


def expiry_warning(
    expiring: Sequence[Expiring], expired: Mapping[Name, Expired] | None, *, more: bool
) -> tuple[str, ...]:
    """Of what a TTL deletes at once. `expired` was counted in the full backup; `more` says that something is replayed
    on it.
    """
    if not expiring:
        return ()
    names = some([".".join(one.name) for one in expiring])
    if expired is None:
        return (
            f"Documents that are past their time to live are deleted soon after the restore: {names}; a dry run counts"
            " them.",
        )
    count = sum(found.documents for found in expired.values())
    exact = all(found.exact for found in expired.values())
    later = " Later writes, updates and deletes are not taken into account." if more else ""
    return (
        f"{'' if exact else 'Up to '}{count} documents of the full backup are past their time to live and are deleted"
        f" soon after the restore: {names}.{later}",
    )


_IN_PLACE: Mapping[bool, tuple[str, ...]] = {
    True: (
        "InPlace: each collection is dropped and loaded under its own name; a failure leaves the target incomplete.",
    ),
    False: (
        "InPlace: only documents whose _id is absent are added; a failure leaves the target with some of them.",
        "Options, indexes and documents that are there stay as they are; a TTL that is there deletes what is added past"
        " its time.",
    ),
}
