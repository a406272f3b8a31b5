"""The indices of a series: what each of them lacks. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lucid_storage.kinds.index_elasticsearch import mappings, ownership
from lucid_storage.kinds.index_elasticsearch.actions import (
    CreateIndex,
    PutMapping,
    PutSettings,
    UpdateAliases,
)
from lucid_storage.kinds.index_elasticsearch.desired import ElasticDesired
from lucid_storage.kinds.index_elasticsearch.months import Month, index_name, month_of
from lucid_storage.kinds.index_elasticsearch.steps import Difference, Step
from lucid_storage.kinds.index_elasticsearch.template import lets_go
from lucid_storage.stores.elasticsearch.ages import ORIGINATION_DATE, POLICY_NAME
from lucid_storage.stores.elasticsearch.compare import settings_differences
from lucid_storage.stores.elasticsearch.settings import left_to_server, static_settings
from lucid_storage.stores.elasticsearch.types import AliasAction, AliasState, ElasticIndexState
from lucid_storage.stores.mongodb.types import JsonValue

_LIMITS = "index.mapping."


@dataclass(frozen=True, slots=True)
class Series:
    """A series at one moment.

    `known` are the names that status recorded: what was right once and is not now is drift, not a new month.
    """

    desired: ElasticDesired
    indices: tuple[ElasticIndexState, ...]
    """Those that are cared for; one that is left alone is not among them."""
    month: Month
    known: frozenset[str]
    turned: bool
    """The month changed since the write alias was set."""
    dropped: Sequence[str]
    by_policy: bool

    @property
    def current(self) -> str:
        return index_name(self.desired.stem, self.month)

    @property
    def following(self) -> str:
        return index_name(self.desired.stem, self.month.next)

    @property
    def oldest(self) -> Month | None:
        """For a lifecycle: what is older and turns up was not there when it was agreed to."""
        if self.desired.lifecycle is None:
            return None
        return min((m for ix in self.indices if (m := month_of(self.desired.stem, ix.name))), default=None)

    @property
    def live(self) -> tuple[ElasticIndexState, ...]:
        """The indices that are written to now and next; what is older keeps its mapping and settings."""
        return tuple(ix for ix in self.indices if ix.name in {self.current, self.following})

    @property
    def replaced(self) -> bool:
        """Whether this month's index has not joined yet: then writes move to it, which is no drift."""
        return any(ix.name == self.current and self.is_new(ix) for ix in self.indices)

    def is_new(self, index: ElasticIndexState) -> bool:
        """Whether it was made by others and has not joined the series yet."""
        return is_newcomer(index, self.desired)


def is_newcomer(index: ElasticIndexState, desired: ElasticDesired) -> bool:
    return desired.stem not in index.aliases and not ownership.made_index(index, desired.owner)


def mapping_steps(series: Series) -> Iterator[Step]:
    """Additions to the mappings of the live indices."""
    wanted = series.desired.mappings
    if wanted is None:
        return
    for index in series.live:
        ours = ownership.made_index(index, series.desired.owner)
        whole = ownership.marked_mappings(wanted, series.desired.owner) if ours else wanted
        # The proof belongs into what is sent, since _meta is replaced whole, but nobody declared it.
        compared = whole if "_meta" in wanted else wanted
        found = mappings.differences(compared, index.mappings, f"{index.name}.mappings")
        if found:
            yield Step(PutMapping(index.name, whole), found)


def limit_steps(series: Series) -> Iterator[Step]:
    """The settings that let a mapping hold more: a larger mapping needs them before."""
    dynamic = _dynamic_settings(series)
    for index in series.live:
        yield from _settings(index, {n: v for n, v in dynamic.items() if _raises(n, v, index)})


def setting_steps(series: Series) -> Iterator[Step]:
    """All other declared dynamic settings of the live indices, and the end of those that are no longer declared."""
    dynamic = _dynamic_settings(series)
    for index in series.live:
        yield from _settings(index, {n: v for n, v in dynamic.items() if not _raises(n, v, index)})


def _raises(name: str, wanted: JsonValue, index: ElasticIndexState) -> bool:
    """Whether it is a limit of the mapping, and a higher one than the index has."""
    if not name.startswith(_LIMITS) or wanted is None:
        return False
    have = index.settings.get(name)
    try:
        return have is None or float(str(wanted)) > float(str(have))
    except ValueError:
        return False


def _dynamic_settings(series: Series) -> dict[str, JsonValue]:
    removed = [name.removeprefix("settings.") for name in series.dropped if name.startswith("settings.")]
    wanted: dict[str, JsonValue] = {**dict.fromkeys(removed), **(series.desired.settings or {})}
    fixed = set(static_settings(wanted))
    return {name: value for name, value in wanted.items() if name not in fixed}


def fixed_settings(series: Series) -> dict[str, list[str]]:
    """Declared settings that an existing index cannot change, each with the live indices that differ."""
    wanted = series.desired.settings or {}
    static = {name: wanted[name] for name in static_settings(wanted)}
    found: dict[str, list[str]] = {}
    for index in series.live:
        for name in settings_differences(static, index.settings):
            found.setdefault(name, []).append(index.name)
    return found


def lifecycle_steps(series: Series) -> Iterator[Step]:
    """Every index follows the policy and counts from the end of its month, or lets go of both."""
    for index in series.indices:
        month = month_of(series.desired.stem, index.name)
        if month is None:
            continue
        if series.by_policy:
            wanted: dict[str, JsonValue] = {
                POLICY_NAME: series.desired.stem,
                ORIGINATION_DATE: str(month.end_milliseconds),
            }
        elif lets_go(
            series.desired, index.settings.get(POLICY_NAME), series.dropped, by_policy=series.by_policy
        ):
            wanted = {POLICY_NAME: None, ORIGINATION_DATE: None}
        else:
            continue
        yield from _settings(index, wanted, upkeep=series.is_new(index))


def creation_steps(series: Series) -> Iterator[Step]:
    """Creations of this and next month's index."""
    present = {index.name for index in series.indices}
    for month in (series.month, series.month.next):
        name = index_name(series.desired.stem, month)
        if name not in present:
            step = Difference(f"indices.{name}", "present", "absent")
            yield Step(_creation(series, name, month), (step,), upkeep=name not in series.known)


def alias_steps(series: Series) -> Iterator[Step]:
    """Aliases on all indices, and writes to this month's index alone."""
    present = {index.name for index in series.indices}
    for index in series.indices:
        yield from _write_alias(series, index, movable=series.current in present)
        yield from _read_aliases(series, index)


def _creation(series: Series, name: str, month: Month) -> CreateIndex:
    desired = series.desired
    settings = {key: value for key, value in (desired.settings or {}).items() if value is not None}
    if series.by_policy:
        settings |= {POLICY_NAME: desired.stem, ORIGINATION_DATE: str(month.end_milliseconds)}
    taken = any(_writes(index.aliases.get(desired.stem)) for index in series.indices)
    aliases: dict[str, AliasState] = {alias: AliasState() for alias in desired.aliases or ()}
    # The server refuses a second write index; where another one still is, the alias is moved afterwards.
    aliases[desired.stem] = AliasState(is_write_index=name == series.current and not taken)
    return CreateIndex(
        name, ownership.marked_mappings(desired.mappings or {}, desired.owner), settings, aliases
    )


def _write_alias(series: Series, index: ElasticIndexState, *, movable: bool) -> Iterator[Step]:
    stem = series.desired.stem
    state = index.aliases.get(stem)
    writes = index.name == series.current
    joins = state is None
    if not joins and (_writes(state) == writes or not movable):
        return
    known = {} if state is None else state.other
    change = AliasAction(index.name, stem, is_write_index=writes, other=known)
    if joins:
        difference = Difference(f"{index.name}.aliases.{stem}", "present", "absent")
        upkeep = series.is_new(index)
    else:
        difference = Difference(f"{index.name}.aliases.{stem}.is_write_index", writes, _writes(state))
        upkeep = series.turned or series.replaced
    yield Step(UpdateAliases(stem, (change,)), (difference,), upkeep=upkeep)


def _read_aliases(series: Series, index: ElasticIndexState) -> Iterator[Step]:
    stem = series.desired.stem
    for alias in series.desired.aliases or ():
        if alias not in index.aliases:
            difference = Difference(f"{index.name}.aliases.{alias}", "present", "absent")
            action = UpdateAliases(stem, (AliasAction(index.name, alias),))
            yield Step(action, (difference,), upkeep=series.is_new(index))
    for field in series.dropped:
        alias = field.removeprefix("aliases.")
        if alias != field and alias in index.aliases:
            difference = Difference(f"{index.name}.aliases.{alias}", "absent", "present")
            yield Step(UpdateAliases(stem, (AliasAction(index.name, alias, remove=True),)), (difference,))


def _settings(
    index: ElasticIndexState, wanted: Mapping[str, JsonValue], *, upkeep: bool = False
) -> Iterator[Step]:
    names = [
        name
        for name in settings_differences(wanted, index.settings)
        if not left_to_server(name, wanted[name], index.settings)
    ]
    if names:
        yield Step(
            PutSettings(index.name, {name: wanted[name] for name in names}),
            tuple(
                Difference(f"{index.name}.settings.{name}", wanted[name], index.settings.get(name))
                for name in names
            ),
            upkeep=upkeep,
        )


def _writes(state: AliasState | None) -> bool:
    return state is not None and state.is_write_index is True
