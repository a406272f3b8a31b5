"""What there is to dump: databases, collections with their options and indexes, and how large they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from bson import Binary
from pymongo.errors import OperationFailure

from lucid_storage.stores.mongodb.dump.member import Document, PinnedMember, suppress_denied
from lucid_storage.stores.mongodb.errors import NAMESPACE_NOT_FOUND
from lucid_storage.stores.mongodb.names import BUCKETS_PREFIX

USERS = ("system.users", "system.roles", "system.version")
"""Of the database admin: what users and roles consist of."""

_OWN_DATABASES = frozenset({"admin", "local", "config"})
_NO_STATISTICS = frozenset({NAMESPACE_NOT_FOUND, 166, 13})


@dataclass(frozen=True, slots=True)
class FoundCollection:
    """A collection as it was listed."""

    database: str
    name: str
    type: str
    """collection, view or timeseries."""
    options: Mapping[str, object]
    """As listCollections gives them, BSON types kept."""
    indexes: tuple[Mapping[str, object], ...] = ()
    """As listIndexes gives them, without those that are still being built."""
    uuid: str = ""
    documents: int = 0
    bytes: int = 0
    index_bytes: int = 0

    @property
    def place(self) -> str:
        """Name of the collection that holds the documents."""
        return BUCKETS_PREFIX + self.name if self.type == "timeseries" else self.name

    @property
    def namespace(self) -> str:
        return f"{self.database}.{self.name}"

    @property
    def capped(self) -> bool:
        return bool(self.options.get("capped"))

    @property
    def average_bytes(self) -> int:
        return self.bytes // self.documents if self.documents else 0


def collections(
    member: PinnedMember, wanted: Callable[[str], bool], wanted_database: Callable[[str], bool]
) -> list[FoundCollection]:
    """Collections, views and time series that `wanted` names as `<database>.<collection>`, the largest first.

    Databases that are not wanted are not looked into: what lies there can neither stop nor slow the dump.

    A collection that goes while it is looked at is left out: its end is in the oplog.
    """
    found = []
    with member.asking("list the databases", "listDatabases"):
        names = member.client.list_database_names()
    for database in filter(wanted_database, sorted(set(names) - _OWN_DATABASES)):
        with member.asking(f"list the collections of {database}", "listCollections"):
            entries = list(_entries(member, database))
        for entry in entries:
            if wanted(f"{database}.{entry['name']}"):
                one = _look(member, database, entry)
                found += [one] if one is not None else []
    return sorted(found, key=lambda one: (-one.bytes, one.namespace))


def sees_all_databases(member: PinnedMember) -> bool:
    """Without the right to list all of them, a server answers with those that the login may read, and says nothing."""
    with member.asking("list the databases", "listDatabases"), suppress_denied():
        member.client.admin.command("listDatabases", nameOnly=True, authorizedDatabases=False)
        return True
    return False


def users_and_roles(member: PinnedMember) -> list[FoundCollection] | None:
    """The collections that hold users and roles; None where the login may not read them."""
    found = []
    with member.asking("read users and roles", "find on admin.system.users"), suppress_denied():
        entries = list(_entries(member, "admin"))
        for name in USERS:
            member.collection("admin", name).find_one()
        for entry in entries:
            if entry["name"] in USERS:
                one = _look(member, "admin", entry)
                found += [one] if one is not None else []
        return found
    return None


def _entries(member: PinnedMember, database: str) -> Iterator[Document]:
    """What mongodump lists: no system collections but stored JavaScript."""
    # The driver decodes answers to commands with its defaults, which fail on a date beyond the year 9999.
    options = member.client.codec_options
    for entry in member.client.get_database(database).cursor_command(
        "listCollections", codec_options=options
    ):
        name = str(entry["name"])
        if database == "admin" or not name.startswith("system.") or name == "system.js":
            yield dict(entry)


def _look(member: PinnedMember, database: str, entry: Document) -> FoundCollection | None:
    name, kind = str(entry["name"]), str(entry.get("type", "collection"))
    options, info = entry.get("options"), entry.get("info")
    uuid = info.get("uuid") if isinstance(info, Mapping) else None
    one = FoundCollection(
        database=database,
        name=name,
        type=kind,
        options=dict(options) if isinstance(options, Mapping) else {},
        uuid=uuid.hex() if isinstance(uuid, Binary) else "",
    )
    if kind == "view":
        return one
    indexes = _indexes(member, one)
    if indexes is None:
        return None
    documents, size, index_size = _sizes(member, one)
    return FoundCollection(database, name, kind, one.options, indexes, one.uuid, documents, size, index_size)


def _indexes(member: PinnedMember, one: FoundCollection) -> tuple[Mapping[str, object], ...] | None:
    command: Document = {"listIndexes": one.name, "includeBuildUUIDs": True, "cursor": {"batchSize": 1000}}
    with member.asking(f"list the indexes of {one.namespace}", "listIndexes"):
        try:
            options = member.client.codec_options
            answer = member.client.get_database(one.database).command(command, codec_options=options)
        except OperationFailure as error:
            if error.code == NAMESPACE_NOT_FOUND:
                return None
            raise
    # One that is being built has another form; if it is ever ready, its commit is in the oplog.
    return tuple(dict(index) for index in answer["cursor"]["firstBatch"] if "spec" not in index)


def _sizes(member: PinnedMember, one: FoundCollection) -> tuple[int, int, int]:
    """Documents, their bytes and those of the indexes; zeros where the login may not ask."""
    with member.asking(f"ask how large {one.namespace} is", "collStats"):
        try:
            answer = member.client.get_database(one.database).command("collStats", one.place)
        except OperationFailure as error:
            if error.code in _NO_STATISTICS:
                return 0, 0, 0
            raise
    return int(answer.get("count", 0)), int(answer.get("size", 0)), int(answer.get("totalIndexSize", 0))
