"""The one call that makes staged indices live, and what has to be known before it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic, sleep

from lucid_storage.errors import LucidError, Reason, RefusedError, ServerRefusedError, StoreUnavailableError
from lucid_storage.stores.elasticsearch.backup.definitions import stood_for
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp, encoded
from lucid_storage.stores.elasticsearch.backup.marks import mark_of
from lucid_storage.stores.elasticsearch.backup.names import MARK, Allowed, held_alias, live_alias
from lucid_storage.stores.elasticsearch.backup.rawjson import joined, member, members
from lucid_storage.stores.elasticsearch.backup.staging import (
    close_to_writes,
    closed_to_writes,
    count,
    is_held,
    lost,
    open_to_writes,
)

logger = logging.getLogger(__name__)

_WAIT = "30s"
_WRITE = "is_write_index"
_CERTAIN_SECONDS = 60.0


class SwitchUncertainError(StoreUnavailableError):
    """Nobody knows whether the switch was done; nothing may be removed."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a name stands for before a restore. `replaces` is the index behind it, None when the name is free."""

    name: str
    replaces: str | None = None
    documents: int = 0


@dataclass(frozen=True, slots=True)
class Staged:
    """An index that is ready to become `target`, with the aliases that it had (JSON texts)."""

    name: str
    target: Target
    aliases: Mapping[str, str] = field(default_factory=dict)


def look(http: ElasticHttp, name: str) -> Target:
    """What is there now under the name. Raises RefusedError for an alias that others made."""
    asked = f"*.aliases,*.mappings._meta.{MARK},*.settings.index.uuid,*.settings.index.verified_before_close"
    answer = http.ask("GET", f"/{encoded(name)}", parameters={"filter_path": asked})
    if answer.status == 404:
        return Target(name)
    if not answer.ok:
        raise http.refused(answer)
    found = members(answer.body.decode())
    real = next(iter(found))
    if real != name:
        mark, aliases = mark_of(member(found[real], "mappings")), members(member(found[real], "aliases"))
        if len(found) > 1 or stood_for(real, mark, aliases, aliases) != name:
            raise RefusedError(
                f"{name} is an alias of {', '.join(sorted(found)[:3])} at {http.subject}, which no restore made; "
                "set elasticsearch.renameTo, or remove the alias.",
                reason=Reason.TARGET_NOT_EMPTY,
            )
    settings = json.loads(member(found[real], "settings"))
    if settings["index"].get("verified_before_close") or _closed(http, real):
        raise RefusedError(
            f"The index {real} is closed at {http.subject}; open or delete it first.",
            reason=Reason.TARGET_NOT_EMPTY,
        )
    return Target(name, real, count(http, real))


def _closed(http: ElasticHttp, name: str) -> bool:
    found = http.must(
        "GET", f"/_resolve/index/{encoded(name)}", parameters={"expand_wildcards": "open,closed,hidden"}
    ).json()
    return any("closed" in entry.get("attributes", ()) for entry in found["indices"])


def check_consent(targets: Sequence[Target], *, drop_existing: bool) -> None:
    """Raises RefusedError(TargetNotEmpty) when documents would be replaced without consent."""
    full = [target for target in targets if target.documents]
    if full and not drop_existing:
        names = ", ".join(f"{target.name} ({target.documents} documents)" for target in full[:3])
        raise RefusedError(
            f"{len(full)} indices are there already: {names}. Set dropExisting to true to replace them, "
            "or elasticsearch.renameTo to restore beside them.",
            reason=Reason.TARGET_NOT_EMPTY,
        )


def switch(
    http: ElasticHttp,
    staged: Sequence[Staged],
    allowed: Allowed,
    *,
    drop_existing: bool,
    closing: Callable[[Sequence[str]], None],
) -> list[str]:
    """Gives the staged indices their names and aliases, all in one call, which also removes what they replace.

    Returns notes. Looks again at every target; an index that is replaced because it is empty is closed to writes
    first, so that nothing written meanwhile is lost; `closing` notes which, for a run that comes after this one was
    killed. Raises LucidError with nothing changed.
    """
    if not staged:
        return []
    again = [look(http, one.target.name) for one in staged]
    check_consent(again, drop_existing=drop_existing)
    empty = [target.replaces for target in again if target.replaces and not drop_existing]
    closed = [name for name in empty if not closed_to_writes(http, name)]
    if closed:
        closing(closed)
    try:
        for name in closed:
            close_to_writes(http, name)
        if empty:
            again = [look(http, one.target.name) for one in staged]
            check_consent(again, drop_existing=False)
        actions, notes = _actions(http, staged, again, allowed)
        _apply(http, staged, actions)
    except BaseException:
        for name in closed:
            _unblock_writes(http, name)
        raise
    return notes


def _unblock_writes(http: ElasticHttp, name: str) -> None:
    """After a switch that failed. What went wrong first decides what may be removed, so nothing is raised."""
    http.pause = sleep  # also when the run was cancelled
    try:
        open_to_writes(http, name)
    except LucidError as error:
        logger.warning("the index %s may still refuse writes (index.blocks.write): %s", name, error.message)


def _apply(http: ElasticHttp, staged: Sequence[Staged], actions: Sequence[str]) -> None:
    body = joined({"actions": f"[{','.join(actions)}]"}).encode()
    http.pause = sleep  # from here on nothing is given up half-way
    try:
        answer = http.ask(
            "POST", "/_aliases", body, {"master_timeout": _WAIT, "timeout": _WAIT}, repeatable=False
        )
    except StoreUnavailableError:
        answer = None  # the server may have done it all the same
    if answer is not None and not answer.ok:
        for one in staged:
            if answer.status == 404 and not is_held(http, one.name):
                raise lost(http, one.name)
        refused = http.refused(answer)
        if answer.status < 500 or isinstance(refused, ServerRefusedError):
            raise refused
    begun = monotonic()
    while not _all_live(http, staged):
        if monotonic() - begun > _CERTAIN_SECONDS:
            raise SwitchUncertainError(
                f"{http.subject} did not say whether it switched the aliases, and has not yet. Look at it, then restore"
                " again: that finishes the switch, or begins anew."
            )
        http.pause(0.5)


def _all_live(http: ElasticHttp, staged: Sequence[Staged]) -> bool:
    try:
        return all(_is_live(http, one) for one in staged)
    except StoreUnavailableError as error:
        raise SwitchUncertainError(
            f"{http.subject} went away while it switched the aliases. Restore again when it is back: that finishes the"
            " switch, or begins anew."
        ) from error


def _is_live(http: ElasticHttp, one: Staged) -> bool:
    return http.ask("HEAD", f"/{encoded(one.name)}/_alias/{encoded(one.target.name)}").ok


def _actions(
    http: ElasticHttp, staged: Sequence[Staged], targets: Sequence[Target], allowed: Allowed
) -> tuple[list[str], list[str]]:
    notes: list[str] = []
    removed = {target.replaces for target in targets if target.replaces}
    held = [{"index": one.name, "alias": held_alias(one.name), "must_exist": True} for one in staged]
    actions = [json.dumps({"remove": one}) for one in held]
    actions += [json.dumps({"remove_index": {"index": name}}) for name in sorted(removed)]
    for one in staged:
        actions.append(_add(one.name, one.target.name, {}))
        actions.append(_add(one.name, live_alias(one.name), {"is_hidden": "true"}))
    names = sorted({alias for one in staged for alias in one.aliases})
    fresh = {one.target.name for one in staged}
    successors = {
        there.replaces: one.name for one, there in zip(staged, targets, strict=True) if there.replaces
    }
    for alias in names:
        if not allowed.name(alias) or alias in fresh:
            notes.append(f"The alias {alias} was left out: the namespace may not use it.")
            continue
        carriers = {one.name: members(one.aliases[alias]) for one in staged if alias in one.aliases}
        live = _live(http, alias)
        if alias in live and alias not in removed:
            notes.append(f"The alias {alias} was left out: an index has that name.")
            continue
        others = {name: body for name, body in live.items() if name not in removed and name != alias}
        successor = successors.get(_writer(live) or "")
        if successor in carriers and _writer({**others, **carriers}) is None:
            carriers[successor] = {**carriers[successor], _WRITE: "true"}
            notes.append(f"The write index of {alias} is {successor}, for it replaces the one that was.")
        actions += _alias(alias, carriers, others, notes)
    return actions, notes


def _writer(carriers: Mapping[str, Mapping[str, str]]) -> str | None:
    """Where writes to an alias of these go: to the one that says so, or to a sole one that says nothing."""
    flagged = [index for index, body in carriers.items() if body.get(_WRITE) == "true"]
    if not flagged and len(carriers) == 1:
        flagged = [index for index, body in carriers.items() if _WRITE not in body]
    return flagged[0] if flagged else None


def _alias(
    alias: str,
    carriers: Mapping[str, Mapping[str, str]],
    others: Mapping[str, Mapping[str, str]],
    notes: list[str],
) -> list[str]:
    """The write index stays where it is when a live index is it: writes go on to where they went."""
    actions = []
    flagged = [index for index, body in others.items() if body.get(_WRITE) == "true"]
    unflagged = [index for index, body in others.items() if _WRITE not in body]
    implicit = len(others) == 1 and len(unflagged) == 1
    if implicit:
        (index,) = others
        actions.append(_add(index, alias, {**others[index], _WRITE: "true"}))
    for name, body in carriers.items():
        about = dict(body)
        if (flagged or implicit) and about.get(_WRITE) == "true":
            about[_WRITE] = "false"
            notes.append(f"The write index of {alias} stays {(flagged or list(others))[0]}.")
        actions.append(_add(name, alias, about))
    return actions


def _add(index: str, alias: str, body: Mapping[str, str]) -> str:
    return joined({"add": joined({**body, "index": json.dumps(index), "alias": json.dumps(alias)})})


def _live(http: ElasticHttp, alias: str) -> dict[str, dict[str, str]]:
    """Live indices of an alias, with its JSON texts; where the name is an index's, that index."""
    answer = http.ask("GET", f"/{encoded(alias)}/_alias")
    if answer.status == 404:
        return {}
    if not answer.ok:
        raise http.refused(answer)
    found = members(answer.body.decode())
    return {name: members(member(text, "aliases", alias)) for name, text in found.items()}
