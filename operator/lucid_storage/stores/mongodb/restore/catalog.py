"""The collections that a restore brings back: where each is loaded, and how it looked at the moment reached so far.

Index builds and changes of options are followed here and carried out at the end, since indexes are built after the
replay, and validation, images and expiry are set after it (rule 2.6). Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lucid_storage.errors import Reason, RefusedError
from lucid_storage.stores.mongodb.names import BUCKETS_PREFIX
from lucid_storage.stores.mongodb.restore.entries import Document, refused

STAGED_PREFIX = "lucid_stg_"
OLD_PREFIX = "lucid_old_"
FUNCTIONS = "system.js"

DEFERRED = frozenset(
    {
        "validator",
        "validationLevel",
        "validationAction",
        "changeStreamPreAndPostImages",
        "expireAfterSeconds",
    }
)
"""Options that would hinder loading or delete at once: set after it."""
_DROPPED = frozenset(
    {"create", "idIndex", "temp", "autoIndexId", "recordPreImages", "uuid", "viewOn", "pipeline"}
)
"""Options that are not passed on: names, what the server makes itself, and what no server takes any more."""

MOST_NAMESPACE_BYTES = 255
"""Of database, dot and collection (https://www.mongodb.com/docs/v6.0/reference/limits/, "namespace length")."""

Name = tuple[str, str]
"""Database and collection, as they were called on the server that was backed up."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A collection as the dump describes it."""

    database: str
    name: str
    type: str = "collection"
    """collection, view or timeseries."""
    options: Document = field(default_factory=dict)
    indexes: tuple[Document, ...] = ()
    uuid: bytes | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a collection is loaded."""

    database: str
    collection: str

    @property
    def namespace(self) -> str:
        return f"{self.database}.{self.collection}"


@dataclass(slots=True)
class Tracked:
    """A collection on its way back."""

    name: Name
    place: Place
    uuid: bytes | None = None
    options: dict[str, object] = field(default_factory=dict)
    indexes: dict[str, Document] = field(default_factory=dict)
    replayed_indexes: set[str] = field(default_factory=set)
    """Names of those that the oplog built."""
    temporary: bool = False
    number: int = 0
    comes_back: bool = False
    """Documents were deleted from it while it was dumped, and may have been inserted again."""

    @property
    def staged(self) -> bool:
        """Loaded beside the live data; the others load under their own name (rule 2.7)."""
        return self.place.collection.startswith(STAGED_PREFIX)

    @property
    def capped(self) -> bool:
        return bool(self.options.get("capped"))

    def creation(self) -> dict[str, object]:
        """Options of the create command for loading."""
        kept = {key: value for key, value in self.options.items() if key not in DEFERRED}
        if self.name[1].startswith(BUCKETS_PREFIX):
            # The rest of what the oplog says of buckets the server makes itself.
            return {key: value for key, value in kept.items() if key in ("timeseries", "collation")}
        if self.capped:
            # What convertToCapped makes of a clustered collection is listed as both, and no server makes both.
            kept.pop("clusteredIndex", None)
        return kept

    def later(self) -> dict[str, object]:
        """Options that are set after the replay."""
        return {key: value for key, value in self.options.items() if key in DEFERRED}


@dataclass(frozen=True, slots=True)
class View:
    """A view; it is made after the last rename."""

    database: str
    name: str
    on: str
    pipeline: tuple[object, ...]
    collation: Document | None = None


def stageable(name: str, options: Document) -> bool:
    """Whether it can be loaded under another name and renamed (rule 2.7)."""
    return not (
        name.startswith((BUCKETS_PREFIX, "enxcol_.")) or name == FUNCTIONS or options.get("encryptedFields")
    )


def restorable(name: str) -> bool:
    """Whether a restore ever writes a collection of this name; views are followed apart from it."""
    if name.startswith((STAGED_PREFIX, OLD_PREFIX)):
        return False
    return not name.startswith("system.") or name == FUNCTIONS or name.startswith(BUCKETS_PREFIX)


def public_name(name: str) -> str:
    """What people call it: a time series by its own name and not by that of its buckets."""
    return name.removeprefix(BUCKETS_PREFIX)


def check_length(database: str, name: str) -> None:
    """No server renames onto a longer name, and by then the live collection is out of the way. Raises RefusedError."""
    size = len(f"{database}.{name}".encode())
    if size > MOST_NAMESPACE_BYTES:
        raise RefusedError(
            f"The name of {name[:40]}... has {size} bytes together with the database {database}, and a server takes"
            f" {MOST_NAMESPACE_BYTES}; choose a shorter targetDatabase, or with collections what comes back without"
            " it.",
            reason=Reason.RESTORE_BLOCKED,
        )


def any_document(collection: str) -> Document:
    """Asks whether it holds anything. `count` answers from a figure that a crash can leave wrong
    (https://www.mongodb.com/docs/v6.0/reference/command/count/, "accuracy after unexpected shutdown").
    """
    return {"find": collection, "projection": {"_id": 1}, "limit": 1, "singleBatch": True}


class Catalog:
    """What is restored, by the name that it has at the moment reached so far."""

    def __init__(self, run: str, targets: Mapping[str, str]) -> None:
        """`targets` maps databases of the backup to those that are written."""
        self._run = run
        self._targets = dict(targets)
        self._tracked: dict[Name, Tracked] = {}
        self._views: dict[Name, View] = {}
        self._made = 0

    def __iter__(self) -> Iterator[Tracked]:
        return iter(sorted(self._tracked.values(), key=lambda tracked: tracked.number))

    def get(self, name: Name) -> Tracked | None:
        return self._tracked.get(name)

    def target(self, database: str) -> str | None:
        """The database that is written for one of the backup; None when it is not restored."""
        return self._targets.get(database)

    @property
    def views(self) -> tuple[View, ...]:
        return tuple(self._views[name] for name in sorted(self._views))

    def track(
        self, name: Name, options: Document, uuid: bytes | None = None, *, own: bool = False
    ) -> Tracked:
        """A collection that is restored from here on; `own` has it loaded under its own name."""
        target = self._targets[name[0]]
        self._made += 1
        staged = stageable(name[1], options) and not own
        tracked = Tracked(
            name=name,
            place=Place(target, f"{STAGED_PREFIX}{self._run}_{self._made}" if staged else name[1]),
            uuid=uuid,
            options={key: value for key, value in options.items() if key not in _DROPPED},
            temporary=bool(options.get("temp")),
            number=self._made,
        )
        self._tracked[name] = tracked
        return tracked

    def forget(self, name: Name) -> Tracked | None:
        """It was dropped, or left the selection."""
        return self._tracked.pop(name, None)

    def rename(self, old: Name, new: Name) -> None:
        """Only the name that it will get in the end changes; what was called so must be forgotten first.

        Raises RefusedError (ReplayRefused) for one that lies under its own name.
        """
        if not self._tracked[old].staged:
            raise refused("the oplog holds a rename of a collection that is loaded under its own name")
        tracked = self._tracked.pop(old)
        tracked.name, tracked.temporary = new, False
        self._tracked[new] = tracked

    def put_view(self, view: View) -> None:
        self._views[(view.database, view.name)] = view

    def drop_view(self, name: Name) -> None:
        self._views.pop(name, None)

    def drop_views(self, database: str) -> None:
        for name in [name for name in self._views if name[0] == database]:
            del self._views[name]

    def finished(self) -> tuple[Tracked, ...]:
        """What is there at the end; collections that were only temporary are not."""
        return tuple(tracked for tracked in self if not tracked.temporary)


def view_of(definition: Document) -> View:
    """An entry of system.views: `_id` holds the whole name."""
    database, _, name = str(definition.get("_id", "")).partition(".")
    pipeline, collation = definition.get("pipeline"), definition.get("collation")
    if not name or "viewOn" not in definition:
        raise refused("the oplog holds a change of a view that is not a whole definition")
    return View(
        database=database,
        name=name,
        on=str(definition["viewOn"]),
        pipeline=tuple(pipeline) if isinstance(pipeline, list) else (),
        collation=collation if isinstance(collation, Mapping) else None,
    )
