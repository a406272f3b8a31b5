"""The views of a swap. They are replaced all together: put one after the other over those that are there, they could
face each other in a circle for a moment, which the server refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bson.raw_bson import RawBSONDocument

from lucid_storage.errors import (
    AccessDeniedError,
    NotSupportedError,
    Reason,
    RefusedError,
    ServerRefusedError,
)
from lucid_storage.stores.mongodb.connection import ExpectedAnswerError
from lucid_storage.stores.mongodb.errors import NAMESPACE_EXISTS, NAMESPACE_NOT_FOUND, words
from lucid_storage.stores.mongodb.restore.catalog import STAGED_PREFIX, View
from lucid_storage.stores.mongodb.restore.commands import Commands
from lucid_storage.stores.mongodb.restore.target import Target
from lucid_storage.stores.mongodb.restore.view_reach import beyond

Entry = Mapping[str, object]

REFUSALS = (ServerRefusedError, NotSupportedError)
"""What the server says again however often it is asked."""
_UNKNOWN = frozenset({168, 31325, 40324})
"""An expression, or a stage, that the server has not heard of."""


class Views:
    """Over one connection. Everything raises LucidError, and may be called again from any point."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def put(self, run: str, views: Sequence[View], *, consent: bool) -> tuple[str, ...]:
        """Make those of the backup; returns, in words, which of them are not there, and why."""
        there = {database: await self._listed(database) for database in {view.database for view in views}}
        wanted, left = [], []
        for view in views:
            entry, reach = there[view.database].get(view.name), left_out(view, view.database)
            if reach is not None:
                left.append(reach)
            elif entry is None or not _is_view(entry):
                wanted.append(view)  # of a collection that came up meanwhile the server speaks itself
            elif same_view(_options(entry), definition(view)):
                continue
            elif not consent:
                left.append(f"the view {view.database}.{view.name} is another one by now, and stays")
            else:
                await self._free(run, view, entry)
                wanted.append(view)
        for view in wanted:
            try:
                await self._make(view)
            except REFUSALS as error:
                left.append(
                    f"the view {view.database}.{view.name} is not there ({error.message.rstrip('.')})"
                )
        return tuple(left)

    async def _listed(self, database: str) -> dict[str, Entry]:
        return {str(entry["name"]): entry for entry in await self._commands.entries(database)}

    async def _free(self, run: str, view: View, entry: Entry) -> None:
        """It faces nothing from here on. Only one of another collation is dropped, which no server changes."""
        attempt = self._commands.connection.attempt(f"replace the view {view.database}.{view.name}")
        command: dict[str, object] = {
            "collMod": view.name,
            "viewOn": f"{STAGED_PREFIX}{run}_none",
            "pipeline": [],
        }
        if _collation(_options(entry)) != _collation(definition(view)):
            # A view has no UUID to be dropped by: what has the name is looked at right before.
            latest = (await self._listed(view.database)).get(view.name)
            if latest is None or not _is_view(latest):
                return
            command = {"drop": view.name}
        try:
            await self._commands.connection.write(
                view.database, command, attempt, expected={NAMESPACE_NOT_FOUND}
            )
        except (ExpectedAnswerError, *REFUSALS):
            return  # gone or a collection by now, which shows when it is made

    async def _make(self, view: View) -> None:
        attempt = self._commands.connection.attempt(f"make the view {view.database}.{view.name}")
        asked = {key: value for key, value in definition(view).items() if value is not None}
        try:
            await self._commands.connection.write(
                view.database, {"create": view.name, **asked}, attempt, expected={NAMESPACE_EXISTS}
            )
        except ExpectedAnswerError:
            asked.pop("collation", None)
            await self._commands.connection.write(view.database, {"collMod": view.name, **asked}, attempt)


def check_view(view: View, entry: Entry | None, *, drop_existing: bool) -> None:
    """A view facing a collection of its name is refused (rule 2.6). Raises RefusedError."""
    if entry is None:
        return
    if not _is_view(entry):
        raise RefusedError(
            f"{view.database}.{view.name} is a {entry.get('type', 'collection')} now and a view in the backup; drop or"
            " rename it, or restore into another database.",
            reason=Reason.RESTORE_BLOCKED,
        )
    if not same_view(_options(entry), definition(view)) and not drop_existing:
        raise RefusedError(
            f"The view {view.database}.{view.name} is another one than in the backup; set dropExisting to true to"
            " replace it.",
            reason=Reason.TARGET_NOT_EMPTY,
        )


def left_out(view: View, database: str) -> str | None:
    """In words, why a restore into `database` never makes it; None when it does."""
    reach = beyond(view.pipeline)
    return None if reach is None else f"the view {database}.{view.name} is left out, since it {reach}"


def try_view(target: Target, database: str, view: View, run: str) -> None:
    """Whether this server knows what the view is made of, asked by a plan over nothing: nothing is written or read.
    Raises RefusedError. Other objections may be about that nothing, an index of text for instance.
    """
    asked: dict[str, object] = {
        "aggregate": f"{STAGED_PREFIX}{run}_none",
        "pipeline": list(view.pipeline),
        "cursor": {},
    }
    task = f"try the view {view.database}.{view.name}"
    try:
        answer = target.command(
            database, {"explain": asked, "verbosity": "queryPlanner"}, task, expected=_UNKNOWN
        )
    except (AccessDeniedError, *REFUSALS):
        return
    if not answer.get("ok"):
        raise RefusedError(
            f"The server does not know what the view {view.database}.{view.name} is made of"
            f" ({words(str(answer.get('errmsg')))}), so nothing was swapped: restore into one that does, or name in"
            " collections what comes back without it.",
            reason=Reason.NOT_SUPPORTED,
        )


def definition(view: View) -> dict[str, object]:
    """As the server takes it; None for no collation."""
    return {"viewOn": view.on, "pipeline": list(view.pipeline), "collation": view.collation}


def same_view(left: Mapping[str, object], right: Mapping[str, object]) -> bool:
    """By their definitions: viewOn, pipeline and collation."""
    same = all(_plain(left.get(field)) == _plain(right.get(field)) for field in ("viewOn", "pipeline"))
    return same and _collation(left) == _collation(right)


def _collation(options: Mapping[str, object]) -> dict[str, object] | None:
    """Without the version of the server's library; None for the simple one."""
    found = options.get("collation")
    if not isinstance(found, Mapping) or found.get("locale") == "simple":
        return None
    return {key: value for key, value in found.items() if key != "version"}


def _is_view(entry: Entry) -> bool:
    return entry.get("type") == "view"


def _options(entry: Entry) -> Mapping[str, object]:
    found = entry.get("options")
    return found if isinstance(found, Mapping) else {}


def _plain(value: object) -> object:
    if isinstance(value, RawBSONDocument | Mapping):
        return [(key, _plain(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
