"""In what a collection differs from its declaration, and what each difference needs. Pure.

Which changes the server makes in place: collMod (validators, images, expiry, granularity upwards; capped size
from 6.0): https://www.mongodb.com/docs/manual/reference/command/collMod/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lucid_storage.kinds.collection.desired import (
    CAPPED_DOCUMENTS,
    EXPIRY,
    OPTION_FIELDS,
    CollectionDesired,
)
from lucid_storage.stores.documents import collation_equivalent, equivalent
from lucid_storage.stores.mongodb.definition import capped_size_matches
from lucid_storage.stores.mongodb.types import (
    Capped,
    CollectionChange,
    CollectionOptions,
    JsonDoc,
    ServerInfo,
)

GRANULARITIES = ("seconds", "minutes", "hours")


@dataclass(frozen=True, slots=True)
class Difference:
    """One option. Exactly one of `change` and `refusal` is set."""

    field: str
    expected: object
    actual: object
    change: CollectionChange | None = None
    refusal: str = ""
    """What a person can do, where the server cannot change it in place."""
    shrinks_to: Capped | None = None
    """Set where documents may be cut off: the new limits."""
    expires: tuple[str, int] | None = None
    """Set where documents may expire: date field and seconds."""


_DEFAULTS: dict[str, object] = {
    "preAndPostImages": False,
    "validator": {},
    "validationLevel": "strict",
    "validationAction": "error",
}
"""What the server has where nothing was set; a field that is no longer declared returns to it."""
_OFF = -1
"""An expiry that was declared before and is to end, as `CollectionChange` says it."""


def wanted_options(desired: CollectionDesired, managed_before: list[str]) -> CollectionOptions:
    """The declared options, and the server's default for those that were declared before and no longer are."""
    changes = {
        field: _DEFAULTS[shown]
        for field, shown in OPTION_FIELDS.items()
        if shown in _DEFAULTS and shown in managed_before and getattr(desired.options, field) is None
    }
    capped = desired.options.capped
    if capped is not None and capped.max_documents is None and CAPPED_DOCUMENTS in managed_before:
        changes["capped"] = replace(capped, max_documents=0)
    for field in ("time_series", "clustered_index"):
        declared = getattr(desired.options, field)
        if declared is not None and f"{OPTION_FIELDS[field]}.{EXPIRY}" in managed_before:
            changes[field] = {EXPIRY: _OFF, **declared}
    return replace(desired.options, **changes)  # type: ignore[arg-type]


def no_longer_declared(desired: CollectionDesired, managed_before: list[str]) -> list[str]:
    """Options that were declared before, are not now, and cannot return to a default in place."""
    whole = set(OPTION_FIELDS.values()) - _DEFAULTS.keys() - set(desired.managed)
    return [name for name in managed_before if name in whole]


def differences(
    wanted: CollectionOptions, observed: CollectionOptions, server: ServerInfo
) -> list[Difference]:
    """All declared options in which the server differs."""
    return [
        *_capped(wanted.capped, observed.capped, server),
        *_time_series(wanted.time_series, observed.time_series),
        *_clustered(wanted.clustered_index, observed.clustered_index),
        *_collation(wanted.collation, observed.collation),
        *_images(wanted.pre_and_post_images, observed.pre_and_post_images, server),
        *_validation(wanted, observed),
    ]


def _capped(wanted: Capped | None, observed: Capped | None, server: ServerInfo) -> Iterator[Difference]:
    if wanted is None:
        return
    if observed is None:
        yield Difference(
            "capped",
            _limits(wanted),
            "not capped",
            refusal="Run convertToCapped on it by hand (it locks the database; what is sharded cannot be capped), or"
            " declare another collection and copy the documents.",
        )
        return
    size_differs = not capped_size_matches(wanted.size_bytes, observed.size_bytes)
    count_differs = wanted.max_documents is not None and wanted.max_documents != (observed.max_documents or 0)
    if not size_differs and not count_differs:
        return
    if not server.at_least(6):
        yield Difference(
            "capped",
            _limits(wanted),
            _limits(observed),
            refusal="Resizing in place needs MongoDB 6.0, and that as featureCompatibilityVersion; set the sizes back,"
            " or recreate the collection.",
        )
        return
    smaller = wanted.size_bytes < observed.size_bytes or _fewer(wanted.max_documents, observed.max_documents)
    yield Difference(
        "capped",
        _limits(wanted),
        _limits(observed),
        change=CollectionChange(
            capped_size_bytes=wanted.size_bytes if size_differs else None,
            capped_max_documents=wanted.max_documents if count_differs else None,
        ),
        shrinks_to=wanted if smaller else None,
    )


def _fewer(wanted: int | None, observed: int | None) -> bool:
    return wanted is not None and wanted > 0 and (observed is None or wanted < observed)


def _limits(capped: Capped) -> str:
    count = f", {capped.max_documents} documents" if capped.max_documents else ""
    return f"{capped.size_bytes} bytes{count}"


def _time_series(wanted: JsonDoc | None, observed: JsonDoc | None) -> Iterator[Difference]:
    if wanted is None:
        return
    if observed is None:
        yield Difference(
            "timeSeries",
            wanted,
            "no time series",
            refusal="A collection cannot become a time series; declare another one and copy the documents.",
        )
        return
    for field in ("timeField", "metaField", "bucketMaxSpanSeconds", "bucketRoundingSeconds"):
        if field in wanted and not _equal(wanted[field], observed.get(field)):
            yield Difference(
                f"timeSeries.{field}",
                wanted[field],
                observed.get(field),
                refusal="It is fixed at creation; set it back, or declare another collection.",
            )
    yield from _granularity(wanted, observed)
    yield from _expiry("timeSeries", wanted, observed, str(wanted["timeField"]))


def _granularity(wanted: JsonDoc, observed: JsonDoc) -> Iterator[Difference]:
    want, have = wanted.get("granularity"), observed.get("granularity", "seconds")
    if want is None or want == have:
        return
    if (
        want in GRANULARITIES
        and have in GRANULARITIES
        and GRANULARITIES.index(want) > GRANULARITIES.index(have)
    ):
        yield Difference("timeSeries.granularity", want, have, change=CollectionChange(granularity=str(want)))
    else:
        yield Difference(
            "timeSeries.granularity",
            want,
            have,
            refusal="Granularity can only become coarser; set it back, or declare another collection.",
        )


def _clustered(wanted: JsonDoc | None, observed: JsonDoc | None) -> Iterator[Difference]:
    if wanted is None:
        return
    if observed is None:
        yield Difference(
            "clusteredIndex",
            wanted,
            "not clustered",
            refusal="A collection cannot become clustered; declare another one and copy the documents.",
        )
        return
    if "name" in wanted and wanted["name"] != observed.get("name"):
        yield Difference(
            "clusteredIndex.name",
            wanted["name"],
            observed.get("name"),
            refusal="It is fixed at creation; set it back.",
        )
    yield from _expiry("clusteredIndex", wanted, observed, "_id")


def _expiry(field: str, wanted: JsonDoc, observed: JsonDoc, date_field: str) -> Iterator[Difference]:
    want, have = wanted.get(EXPIRY), observed.get(EXPIRY)
    if want is None or _equal(want, have):
        return
    seconds = int(str(want))
    if seconds == _OFF:
        if have is not None:
            change = CollectionChange(expire_after_seconds=_OFF)
            yield Difference(f"{field}.{EXPIRY}", "off", have, change=change)
        return
    sooner = have is None or not equivalent({"v": max(seconds, _seconds(have))}, {"v": seconds})
    yield Difference(
        f"{field}.{EXPIRY}",
        want,
        have,
        change=CollectionChange(expire_after_seconds=seconds),
        expires=(date_field, seconds) if sooner else None,
    )


def _seconds(value: object) -> int:
    while isinstance(value, dict):
        value = next(iter(value.values()))
    return int(str(value))


def _collation(wanted: JsonDoc | None, observed: JsonDoc | None) -> Iterator[Difference]:
    if wanted is not None and not collation_equivalent(wanted, observed):
        yield Difference(
            "collation",
            wanted,
            observed,
            refusal="The default collation is fixed at creation; set it back, or declare another collection.",
        )


def _images(wanted: bool | None, observed: bool | None, server: ServerInfo) -> Iterator[Difference]:
    if wanted is None or wanted == bool(observed):
        return
    if server.at_least(6):
        yield Difference(
            "preAndPostImages", wanted, bool(observed), change=CollectionChange(pre_and_post_images=wanted)
        )
    else:
        yield Difference(
            "preAndPostImages",
            wanted,
            bool(observed),
            refusal="It needs MongoDB 6.0, and that as featureCompatibilityVersion; remove the field.",
        )


def _validation(wanted: CollectionOptions, observed: CollectionOptions) -> Iterator[Difference]:
    have = observed.validator if observed.validator is not None else {}
    if wanted.validator is not None and not equivalent(wanted.validator, have):
        yield Difference(
            "validator", wanted.validator, have, change=CollectionChange(validator=wanted.validator)
        )
    level = observed.validation_level or "strict"
    if wanted.validation_level is not None and wanted.validation_level != level:
        yield Difference(
            "validationLevel",
            wanted.validation_level,
            level,
            change=CollectionChange(validation_level=wanted.validation_level),
        )
    action = observed.validation_action or "error"
    if wanted.validation_action is not None and wanted.validation_action != action:
        yield Difference(
            "validationAction",
            wanted.validation_action,
            action,
            change=CollectionChange(validation_action=wanted.validation_action),
        )


def _equal(a: object, b: object) -> bool:
    return equivalent({"v": a}, {"v": b})  # type: ignore[dict-item]
