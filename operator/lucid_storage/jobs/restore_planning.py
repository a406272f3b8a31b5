"""What a restore will do and what blocks it, short enough for a termination message. Nothing is written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lucid_storage.archive.manifest import CollectionRecord
from lucid_storage.errors import AccessDeniedError, LucidError, Reason
from lucid_storage.jobs.mongodb_restore_plan import MongoPlan, data_name
from lucid_storage.jobs.mongodb_restore_warnings import expiry_warning
from lucid_storage.jobs.restore_engines import OtherEngine
from lucid_storage.kinds.identity import kept, same_server
from lucid_storage.models.orders import PlannedItem, RestoreOrder, RestorePlanned
from lucid_storage.stores.mongodb.restore.adapter import MongoRestores
from lucid_storage.stores.mongodb.restore.catalog import Name, public_name, stageable
from lucid_storage.stores.mongodb.restore.expiring import Expired, Expiring
from lucid_storage.stores.mongodb.restore.port import MemberSpace, Occupant
from lucid_storage.stores.mongodb.restore.staging import InPlace
from lucid_storage.stores.mongodb.restore.views import same_view

TOLD_TARGETS = 12
"""Targets that fit a termination message beside the rest."""
TOLD_PIECES = 12

Expiries = Mapping[Name, Expired] | None
"""What was counted of documents that a TTL deletes, by collection of the full backup; None when nobody counted."""
There = Mapping[tuple[str, str], Occupant]
"""What has the names of targets now."""


def whole_plan(
    order: RestoreOrder,
    uri: Callable[[], str],
    plan: MongoPlan | None,
    others: Sequence[OtherEngine],
    expired: Expiries = None,
) -> RestorePlanned:
    """What all engines will do; the first thing that blocks one of them blocks all."""
    planned = RestorePlanned()
    if plan is not None:
        planned = asyncio.run(_told(order, uri(), plan, expired))
    for other in others:
        items, blocked = other.plan()
        update: dict[str, object] = {
            "targets": (*planned.targets, *items)[:TOLD_TARGETS],
            "target_count": planned.target_count + len(items),
            "read_bytes": planned.read_bytes + sum(o.stored_bytes for o in other.manifest.objects),
            "volumes": (*planned.volumes, *other.volumes()),
        }
        if blocked is not None and planned.blocked_by is None:
            update |= {"blocked_by": blocked.message, "blocked_reason": blocked.reason}
        planned = planned.model_copy(update=update)
    return planned


async def _told(order: RestoreOrder, uri: str, plan: MongoPlan, expired: Expiries) -> RestorePlanned:
    """The plan with what the server says: what is overwritten, and the room that there is."""
    port = MongoRestores(uri, label="MongoDB", app_name="lucid-storage-restore", guard=lambda: None)
    try:
        _check_server(order, await port.identity())
        lacking = await port.missing_rights(plan.databases, users=order.users_and_roles)
        if lacking:
            raise AccessDeniedError(
                f"The login lacks the right to {', '.join(lacking[:5])}; grant it (readWrite and dbAdmin on the"
                " database, and applyOps by a role on the cluster; for usersAndRoles restore and readWrite on admin)."
            )
        databases = await port.restorable_databases()
        occupants = await port.occupants(plan.databases, sizes=order.in_place)
        members = await port.space(plan.databases)
    finally:
        await port.close()
    return told(order, plan, occupants, members, expired, databases)


def _check_server(order: RestoreOrder, found: str) -> None:
    """Consent, backups and markers are about the server that the operator saw: a login can lead elsewhere by now."""
    expected = order.server_identity
    if expected is not None and not same_server(expected, kept(found)):
        raise LucidError(
            f"The connection leads to another MongoDB ({kept(found)}) than the one that this restore is for"
            f" ({expected}); nothing was written there. See where it should lead, then restore again.",
            reason=Reason.TARGET_CHANGED,
        )


def told(
    order: RestoreOrder,
    plan: MongoPlan,
    occupants: tuple[Occupant, ...],
    members: tuple[MemberSpace, ...],
    expired: Expiries = None,
    databases: Sequence[str] = (),
) -> RestorePlanned:
    """Pure: what the plan says, and what blocks it. `databases` are those that are there."""
    there = {(occupant.database, occupant.name): occupant for occupant in occupants}
    expiring = tuple(one for one in plan.expiring if not _merges(order, plan, one, there))
    expired = _expired(expiring, expired)
    items = [_item(plan, record, there, expired or {}) for record in plan.records]
    for made in plan.made:
        occupant = there.get(plan.place_of(made.name))
        documents = occupant.documents if occupant is not None and occupant.documents else None
        note = "made after the full backup"
        items.append(PlannedItem(target=".".join(plan.place_of(made.name)), overwrites=documents, note=note))
    sizes = [member.free_bytes for member in members]
    known = [size for size in sizes if size is not None]
    pieces = (plan.path.full, *plan.path.then)
    blocked = _other_case(plan, databases) or _blocked(order, plan, there, sizes)
    return RestorePlanned(
        chain=tuple(piece.id for piece in pieces)[:TOLD_PIECES],
        slices=len(plan.path.then),
        read_bytes=plan.read_bytes,
        needed_bytes=plan.needed_bytes,
        free_bytes=min(known) if known and len(known) == len(sizes) else None,
        targets=tuple(items[:TOLD_TARGETS]),
        target_count=len(items),
        cut_transactions=plan.cut_transactions,
        expiring_documents=None if expired is None else sum(one.documents for one in expired.values()),
        warnings=(*plan.warnings, *expiry_warning(expiring, expired, more=plan.replays))[:6],
        blocked_by=blocked[1] if blocked else None,
        blocked_reason=blocked[0] if blocked else None,
    )


def _merges(order: RestoreOrder, plan: MongoPlan, one: Expiring, there: There) -> bool:
    """Whether it is added to what has its name: then only the TTLs that are there count."""
    into = (plan.targets.get(one.name[0], ""), one.name[1])
    return order.in_place and not order.drop_existing and one.stageable and into in there


def _expired(expiring: Sequence[Expiring], expired: Expiries) -> Expiries:
    """What was counted of these."""
    if expired is None:
        return None
    bases = {(one.base[0], public_name(one.base[1])) for one in expiring if one.base is not None}
    return {name: count for name, count in expired.items() if name in bases}


def _other_case(plan: MongoPlan, known: Sequence[str]) -> tuple[Reason, str] | None:
    """MongoDB makes no database whose name differs from that of another in case only."""
    spelled = {name.lower(): name for name in known if name not in plan.databases}
    for target in plan.databases:
        if target not in known and target.lower() in spelled:
            return (
                Reason.RESTORE_BLOCKED,
                f"There is a database {spelled[target.lower()]}, and MongoDB takes no {target} beside it; name another"
                " one in targetDatabase.",
            )
    return None


def _blocked(
    order: RestoreOrder,
    plan: MongoPlan,
    there: There,
    sizes: list[int | None],
) -> tuple[Reason, str] | None:
    """Consent, types and space (rule 2.1, 2.6, 2.8). The first thing that must change."""
    for wanted in _wanted(order, plan):
        occupant = there.get(plan.place_of(wanted.name))
        refused = _refused(".".join(plan.place_of(wanted.name)), wanted, occupant)
        if refused is not None:
            return refused
    if None in sizes and not order.allow_unknown_space:
        return (
            Reason.SPACE_UNKNOWN,
            "The free space of a member cannot be read (the login needs the action dbStats); set allowUnknownSpace to"
            " true to restore all the same.",
        )
    least = min((size for size in sizes if size is not None), default=None)
    if least is not None and least + _freed(order, plan, there) < plan.needed_bytes:
        return (
            Reason.NOT_ENOUGH_SPACE,
            f"The restore needs {plan.needed_bytes} bytes free on each member, and one has {least}; enlarge its volume"
            " or choose collections.",
        )
    return None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A name that is written."""

    name: Name
    type: str
    stageable: bool
    replaces: bool
    """Documents that are there stand in nobody's way: they are replaced, or others are added to them."""
    view: Mapping[str, object] | None = None
    """What one that is there must be, as it is not replaced."""


def _wanted(order: RestoreOrder, plan: MongoPlan) -> Iterator[_Wanted]:
    """Of the base, and of what the replay makes. What is gone at the restored moment touches nothing of its name,
    unless it lies there on the way.

    The worker judges by the same functions, so that it refuses nothing which the plan let pass.
    """
    in_place = InPlace(order.drop_existing, plan.steady) if order.in_place else None
    consent = order.in_place or order.drop_existing
    for record in plan.records:
        name = data_name(record)
        beside = stageable(name[1], plan.options_of(record))
        if (record.database, record.name) in plan.gone and beside:
            continue
        owned = in_place is not None and in_place.owns(name)
        public = (record.database, record.name)
        # Of one that the replay changes the last definition is not known yet.
        fixed = record.type == "view" and not order.drop_existing and plan.steady(name)
        yield _Wanted(
            public,
            record.type,
            beside,
            replaces=owned or (beside and consent),
            view=plan.options_of(record) if fixed else None,
        )
    for made in plan.made:
        yield _Wanted(made.name, made.type, made.stageable, replaces=made.stageable and consent)


def _refused(target: str, wanted: _Wanted, occupant: Occupant | None) -> tuple[Reason, str] | None:
    if occupant is None:
        return None
    if occupant.type != wanted.type:
        return (
            Reason.RESTORE_BLOCKED,
            f"{target} is a {occupant.type} now and a {wanted.type} in the backup; drop or rename it, or restore"
            " into another database with targetDatabase.",
        )
    if wanted.view is not None and not same_view(occupant.view or {}, wanted.view):
        return (
            Reason.TARGET_NOT_EMPTY,
            f"The view {target} is another one than in the backup; set dropExisting to true to replace it.",
        )
    if not occupant.documents or wanted.replaces:
        return None
    how = (
        "set dropExisting to true to replace what is there"
        if wanted.stageable
        else "a time series, stored functions and what has encrypted fields cannot be replaced by rename: move"
        " its documents away"
    )
    return (
        Reason.TARGET_NOT_EMPTY,
        f"{target} holds {occupant.documents} documents; {how}, or restore into another database with targetDatabase.",
    )


def _item(
    plan: MongoPlan, record: CollectionRecord, there: There, expired: Mapping[Name, Expired]
) -> PlannedItem:
    occupant = there.get(plan.target_of(record))
    gone = (record.database, record.name) in plan.gone
    replaced = occupant.documents if occupant is not None and not gone else 0
    count = expired.get((record.database, record.name))
    notes = (
        record.type if record.type != "collection" else None,
        _past(count) if count is not None and count.documents else None,
    )
    note = ", ".join(one for one in notes if one) or None
    return PlannedItem(
        target=".".join(plan.target_of(record)),
        documents=record.documents,
        overwrites=replaced or None,
        note="not there at that moment" if gone else note,
    )


def _past(count: Expired) -> str:
    return f"{'' if count.exact else 'up to '}{count.documents} past their time to live"


def _freed(order: RestoreOrder, plan: MongoPlan, there: There) -> int:
    """Bytes that a restore in place gives back before it takes others: of collections that keep their name."""
    if not (order.in_place and order.drop_existing):
        return 0
    in_place = InPlace(order.drop_existing, plan.steady)
    names = (plan.target_of(record) for record in plan.records if in_place.owns(data_name(record)))
    return sum(there[name].stored_bytes for name in names if name in there)
