"""The journal of a swap and the marker of a finished restore: records in the target server (rule 2.2, 2.10).

They lie in a target database under reserved names, so no dump, slice, drift or export sees them. Pure: documents in
and out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.mongodb.restore.catalog import (
    OLD_PREFIX,
    STAGED_PREFIX,
    Tracked,
    View,
    public_name,
)
from lucid_storage.stores.mongodb.restore.entries import Document
from lucid_storage.stores.mongodb.restore.finishing import Expiry, expiries

JOURNALS = f"{STAGED_PREFIX}journal"
MARKERS = f"{STAGED_PREFIX}markers"
_REMEMBERED_SECONDS = 7 * 24 * 3600
"""A run that was given up: longer than any worker may take."""

Command = dict[str, object]


class SwapState(StrEnum):
    """How far a run came. It never goes back."""

    LOADING = "loading"
    """The worker is at it."""
    READY = "ready"
    """Staged, replayed and indexed by the worker; nothing live was touched."""
    SWAPPING = "swapping"
    """The point of no return: from here it only rolls forward."""
    SWAPPED = "swapped"
    """All pairs are swapped and checked, views and expiry are set; old collections are kept."""
    GIVEN_UP = "given-up"
    """What it did was taken back. The record stays for a while: a worker that begins late finds it and ends."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One collection that is swapped. UUIDs are 32 hexadecimal digits."""

    number: int
    database: str
    name: str
    staged: str
    staged_uuid: str
    live_uuid: str | None = None
    """Of what had the name when the swap began; None when nothing had it."""
    expiries: tuple[Expiry, ...] = ()

    def old(self, run: str) -> str:
        """Where the live collection goes."""
        return f"{OLD_PREFIX}{run}_{self.number}"

    def aside(self, run: str, count: int) -> str:
        """Where a collection goes that came up in the gap."""
        return f"{self.old(run)}_aside{count}"


@dataclass(frozen=True, slots=True)
class Direct:
    """A collection that was loaded under its own name, since it cannot be renamed (rule 2.7)."""

    database: str
    name: str
    made_uuid: str | None = None
    """Of what holds its documents, where this run made it; None where an empty one was there."""
    found_uuid: str | None = None
    """Of that empty one."""
    listed: str | None = None
    """Where the `_id`s are listed that the run puts into it."""
    making: bool = False
    """Nothing had the name, and the run is about to make it: until its UUID is known, an empty one counts as own."""
    expiries: tuple[Expiry, ...] = ()

    @property
    def place(self) -> tuple[str, str]:
        return self.database, self.name


@dataclass(frozen=True, slots=True)
class Journal:
    """All that is needed to finish a swap, whoever comes next."""

    run: str
    state: SwapState
    pairs: tuple[Pair, ...] = ()
    views: tuple[View, ...] = ()
    direct: tuple[Direct, ...] = ()
    owner: Mapping[str, str] = field(default_factory=dict)
    accounts: bool = False
    """Users and roles of the backup wait in the database admin."""
    fence: Mapping[str, int] = field(default_factory=dict)
    """By database: the number of the lease under which it was loaded (rule 2.9)."""
    merged: int = 0
    """Collections that were there, and got what was absent in them."""
    consent: bool = False
    """Documents that were live may be dropped (rule 2.1); known from the moment when the swap began."""
    left: tuple[str, ...] = ()
    """In words, what is not as in the backup: what the worker left out, and from the swap's end all of it."""

    @property
    def replaced(self) -> int:
        """Collections that the swap keeps under another name for a while."""
        return sum(1 for pair in self.pairs if pair.live_uuid)

    @property
    def databases(self) -> tuple[str, ...]:
        found = {pair.database for pair in self.pairs} | {view.database for view in self.views}
        return tuple(sorted(found | {direct.database for direct in self.direct}))

    def sealed(self, live: Mapping[tuple[str, str], str], *, consent: bool) -> Journal:
        """With the UUIDs of what is live now, by database and name: what is written before the first rename."""
        pairs = tuple(replace(pair, live_uuid=live.get((pair.database, pair.name))) for pair in self.pairs)
        return replace(self, pairs=pairs, state=SwapState.SWAPPING, consent=consent)

    def swapped(self, unplaced: Mapping[int, str], left: Sequence[str]) -> Journal:
        """The end of the swap. What is there of pairs that are not in place is not dropped by this run: they go out of
        its journal.
        """
        pairs = tuple(pair for pair in self.pairs if pair.number not in unplaced)
        return replace(
            self, state=SwapState.SWAPPED, pairs=pairs, left=(*self.left, *unplaced.values(), *left)
        )

    def document(self) -> dict[str, object]:
        return {
            "_id": self.run,
            "state": str(self.state),
            "owner": dict(self.owner),
            "accounts": self.accounts,
            "fence": [{"database": name, "number": number} for name, number in self.fence.items()],
            "merged": self.merged,
            "consent": self.consent,
            "left": list(self.left),
            "pairs": [_pair_document(pair) for pair in self.pairs],
            "views": [_view_document(view) for view in self.views],
            "direct": [
                {
                    "database": direct.database,
                    "name": direct.name,
                    "madeUuid": direct.made_uuid,
                    "foundUuid": direct.found_uuid,
                    "listed": direct.listed,
                    "making": direct.making,
                    "expiries": _expiry_documents(direct.expiries),
                }
                for direct in self.direct
            ],
        }


def giving_up(run: str) -> Command:
    """From here on no worker of this run begins or goes on, whenever it comes. What it wrote down stays until
    `given_up`.
    """
    state = {"state": str(SwapState.GIVEN_UP), "at": "$$NOW"}
    return {"update": JOURNALS, "updates": [{"q": {"_id": run}, "u": [{"$set": state}], "upsert": True}]}


def given_up(run: str) -> Command:
    """All of it was taken back."""
    kept = {"$project": {"state": 1, "at": 1}}
    return {"update": JOURNALS, "updates": [{"q": {"_id": run}, "u": [kept]}]}


def forgetting() -> Command:
    """Removes what stands of runs that were given up long ago."""
    long_ago = {"$subtract": ["$$NOW", _REMEMBERED_SECONDS * 1000]}
    query = {"state": str(SwapState.GIVEN_UP), "$expr": {"$lte": ["$at", long_ago]}}
    return {"delete": JOURNALS, "deletes": [{"q": query, "limit": 0}]}


def ready(
    begun: Journal,
    finished: Sequence[Tracked],
    uuids: Mapping[int, str],
    views: Sequence[View],
    targets: Mapping[str, str],
) -> Journal:
    """What the worker writes when everything is staged. `uuids` are those of the staged collections, by number."""
    made = {direct.place: direct for direct in begun.direct}
    places = [
        (tracked, (tracked.place.database, public_name(tracked.place.collection))) for tracked in finished
    ]
    return replace(
        begun,
        state=SwapState.READY,
        pairs=tuple(
            Pair(
                number=tracked.number,
                database=tracked.place.database,
                name=tracked.name[1],
                staged=tracked.place.collection,
                staged_uuid=uuids[tracked.number],
                expiries=expiries(tracked),
            )
            for tracked in finished
            if tracked.staged
        ),
        views=tuple(
            replace(view, database=targets[view.database]) for view in views if view.database in targets
        ),
        direct=tuple(
            replace(made.get(place, Direct(*place)), expiries=expiries(tracked))
            for tracked, place in places
            if not tracked.staged
        ),
    )


def parsed(document: Mapping[str, object]) -> Journal:
    """The opposite of `document()`. Raises LucidError: whoever may write into the database may have changed it."""
    try:
        return _journal(document)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise LucidError(
            f"The record {str(document.get('_id'))[:64]} in {JOURNALS} was changed by somebody and cannot be read; put"
            " it right, or remove it where nothing was swapped yet, which gives that restore up.",
            reason=Reason.RESTORE_BLOCKED,
        ) from error


def _journal(document: Mapping[str, object]) -> Journal:
    owner = document.get("owner")
    return Journal(
        run=str(document["_id"]),
        state=SwapState(str(document["state"])),
        pairs=tuple(_pair(item) for item in _list(document, "pairs")),
        views=tuple(_view(item) for item in _list(document, "views")),
        direct=tuple(
            Direct(
                str(item["database"]),
                str(item["name"]),
                _text(item, "madeUuid"),
                _text(item, "foundUuid"),
                _text(item, "listed"),
                bool(item.get("making")),
                _expiries(item),
            )
            for item in _list(document, "direct")
        ),
        owner={str(key): str(value) for key, value in owner.items()} if isinstance(owner, Mapping) else {},
        accounts=bool(document.get("accounts")),
        fence={str(item["database"]): int(str(item["number"])) for item in _list(document, "fence")},
        merged=int(str(document.get("merged", 0))),
        consent=bool(document.get("consent")),
        left=_texts(document, "left"),
    )


def _pair_document(pair: Pair) -> dict[str, object]:
    return {
        "number": pair.number,
        "database": pair.database,
        "name": pair.name,
        "staged": pair.staged,
        "stagedUuid": pair.staged_uuid,
        "liveUuid": pair.live_uuid,
        "expiries": _expiry_documents(pair.expiries),
    }


def _pair(document: Mapping[str, object]) -> Pair:
    number, live = document["number"], document.get("liveUuid")
    assert isinstance(number, int)
    return Pair(
        number=number,
        database=str(document["database"]),
        name=str(document["name"]),
        staged=str(document["staged"]),
        staged_uuid=str(document["stagedUuid"]),
        live_uuid=str(live) if live else None,
        expiries=_expiries(document),
    )


def _view_document(view: View) -> dict[str, object]:
    return {
        "database": view.database,
        "name": view.name,
        "viewOn": view.on,
        "pipeline": list(view.pipeline),
        "collation": view.collation,
    }


def _view(document: Mapping[str, object]) -> View:
    pipeline, collation = document.get("pipeline"), document.get("collation")
    return View(
        database=str(document["database"]),
        name=str(document["name"]),
        on=str(document["viewOn"]),
        pipeline=tuple(pipeline) if isinstance(pipeline, list) else (),
        collation=collation if isinstance(collation, Mapping) else None,
    )


def _expiry_documents(found: Sequence[Expiry]) -> list[Document]:
    return [{"index": expiry.index, "seconds": expiry.seconds} for expiry in found]


def _expiries(document: Mapping[str, object]) -> tuple[Expiry, ...]:
    return tuple(
        Expiry(str(item["index"]) if item.get("index") is not None else None, int(str(item["seconds"])))
        for item in _list(document, "expiries")
    )


def _texts(document: Mapping[str, object], name: str) -> tuple[str, ...]:
    found = document.get(name)
    return tuple(str(item) for item in found) if isinstance(found, list) else ()


def _text(document: Mapping[str, object], name: str) -> str | None:
    found = document.get(name)
    return str(found) if found else None


def _list(document: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    found = document.get(name)
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []
