"""Which member a backup reads from: one that clients may see, that is not delayed, and that is up to date."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError
from pymongo.read_preferences import Nearest
from pymongo.uri_parser import parse_uri

from lucid_storage.errors import NotSupportedError, Reason, StoreUnavailableError
from lucid_storage.models.backup import ReadPreference
from lucid_storage.stores.mongodb.dump.member import Client, Document, PinnedMember, suppress_denied
from lucid_storage.stores.mongodb.dump.optimes import OpTime, optime
from lucid_storage.stores.mongodb.errors import Attempt, invalid_uri, translated

logger = logging.getLogger(__name__)

APP_NAME = "lucid-storage-backup"
SELECTION_MS = 15_000
SOCKET_MS = 120_000
"""A member that says nothing for so long is lost."""
STALE_SECONDS = 90
"""A secondary that is further behind is read only when there is no other (the server's own smallest maxStaleness)."""

_OWN = {
    "directconnection",
    "readpreference",
    "readpreferencetags",
    "maxstalenessseconds",
    "loadbalanced",
    "appname",
    "serverselectiontimeoutms",
    "sockettimeoutms",
    "datetime_conversion",
}
"""Options that are ours to give."""
_STANDALONE = (
    "MongoDB runs as a standalone server, which has no oplog, so no consistent backup can be made of it. Start it as a"
    " replica set, of one member if need be."
)
_SHARDED = (
    "This MongoDB is part of a sharded cluster, which is not backed up by this operator. Use the snapshots of your"
    " storage or MongoDB's own tools for sharded clusters."
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A member as it describes itself."""

    host: str
    primary: bool
    written: OpTime | None
    usable: bool
    """Data-bearing, visible to clients, and not delayed on purpose."""


def candidate(host: str, hello: Mapping[str, object]) -> Candidate:
    """From the member's answer to `hello`."""
    written = hello.get("lastWrite")
    at = written.get("opTime") if isinstance(written, Mapping) else None
    primary = bool(hello.get("isWritablePrimary"))
    delay = hello.get("secondaryDelaySecs") or hello.get("slaveDelay")
    return Candidate(
        host=host,
        primary=primary,
        written=optime(at) if isinstance(at, Mapping) else None,
        usable=(primary or bool(hello.get("secondary"))) and not hello.get("hidden") and not delay,
    )


def ranked(candidates: Sequence[Candidate], preference: ReadPreference) -> list[Candidate]:
    """Those that may be read, the best first. Ties go by host, so that two runs choose alike."""
    usable = [c for c in candidates if c.usable and c.written is not None]
    newest = max((c.written.seconds for c in usable if c.written), default=0)

    def rank(one: Candidate) -> tuple[bool, bool, str]:
        stale = one.written is None or newest - one.written.seconds > STALE_SECONDS
        wanted = one.primary if preference is ReadPreference.PRIMARY_PREFERRED else not one.primary
        return stale, preference is not ReadPreference.NEAREST and not wanted, one.host

    if preference is ReadPreference.PRIMARY:
        usable = [c for c in usable if c.primary]
    elif preference is ReadPreference.SECONDARY:
        usable = [c for c in usable if not c.primary]
    return sorted(usable, key=rank)


def pin(
    uri: str, preference: ReadPreference = ReadPreference.SECONDARY_PREFERRED, *, label: str = "MongoDB"
) -> PinnedMember:
    """Connect to the member to read from. The caller closes it.

    Raises LucidError: NoOplog for a standalone server, ShardedUnsupported for a router or a member of a sharded
    cluster, StoreUnavailable when no member may be read from, and what a login can end with.
    """
    for member in _members(uri, preference, label):
        return member
    raise StoreUnavailableError(
        f"{label}: no member can be read from with the read preference {preference}; it is tried again."
    )


def others(
    uri: str, preference: ReadPreference, than: PinnedMember, *, label: str = "MongoDB"
) -> Iterator[PinnedMember]:
    """The other members that may be read, the best first. The caller closes each. Raises as `pin` does."""
    return _members(uri, preference, label, but=than.host)


def _members(
    uri: str, preference: ReadPreference, label: str, but: str | None = None
) -> Iterator[PinnedMember]:
    options = _options(uri, label)
    attempt = Attempt(label, "find a member to read from")
    hellos: dict[str, Document] = {}
    for host in _visible(uri, label, attempt):
        if host == but:
            continue
        with _direct(host, options, selection_ms=SELECTION_MS // 3) as client:
            try:
                hellos[host] = client.admin.command("hello")
            except PyMongoError as error:
                logger.info("%s does not answer: %s", host, type(error).__name__)
    for chosen in ranked([candidate(host, hello) for host, hello in hellos.items()], preference):
        member = PinnedMember(_direct(chosen.host, options), chosen.host, label, hellos[chosen.host])
        try:
            _refuse_shards(member)
        except BaseException:
            member.close()
            raise
        yield member


def newest(uri: str, *, label: str = "MongoDB") -> OpTime | None:
    """What a majority has as the primary knows it: at least everything that was confirmed to a client by now.

    None where there is no primary to ask.
    """
    with _client(uri, label) as client:
        try:
            hello = client.admin.command("hello")
        except PyMongoError as error:
            logger.info("no primary says what a majority has: %s", type(error).__name__)
            return None
        written = hello.get("lastWrite")
        at = written.get("majorityOpTime") if isinstance(written, Mapping) else None
        return optime(at) if isinstance(at, Mapping) else None


def _visible(uri: str, label: str, attempt: Attempt) -> list[str]:
    """Addresses of the members that clients may see: hidden ones and arbiters are not among them."""
    with _client(uri, label) as client, translated(attempt, lambda: "no member of the replica set answers"):
        hello = client.get_database("admin", read_preference=Nearest()).command("hello")
        if hello.get("msg") == "isdbgrid":
            raise NotSupportedError(_SHARDED, reason=Reason.SHARDED_UNSUPPORTED)
        if "setName" not in hello:
            raise NotSupportedError(_STANDALONE, reason=Reason.NO_OPLOG)
        if client.topology_description.topology_type_name == "Single":
            return [_joined(*address) for address in client.topology_description.server_descriptions()]
        return [str(host) for key in ("hosts", "passives") for host in hello.get(key) or ()]


def _refuse_shards(member: PinnedMember) -> None:
    """A member of a sharded cluster holds a part of the data only, or the cluster's own."""
    sharded = "configsvr" in member.hello
    with member.asking("ask whether it is a shard"), suppress_denied():
        identity = member.collection("admin", "system.version").find_one({"_id": "shardIdentity"})
        sharded = sharded or identity is not None
    with member.asking("ask whether it is a shard"), suppress_denied():
        sharded = sharded or bool(member.client.admin.command("shardingState").get("enabled"))
    if sharded:
        raise NotSupportedError(_SHARDED, reason=Reason.SHARDED_UNSUPPORTED)


def _options(uri: str, label: str) -> dict[str, Any]:
    """All parts of the connection string but the hosts, as the driver's keyword arguments."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parts = parse_uri(uri)
    except (PyMongoError, ValueError, TypeError, KeyError):
        raise invalid_uri(label) from None
    options: dict[str, Any] = {k: v for k, v in parts["options"].items() if k.lower() not in _OWN}
    if parts["username"] is not None:
        options.update(username=parts["username"], password=parts["password"])
        if parts["database"]:
            options.setdefault("authSource", parts["database"])
    return options


def _client(uri: str, label: str) -> Client:
    try:
        with warnings.catch_warnings():
            # The driver warns of options that it does not know, and quotes their values.
            warnings.simplefilter("ignore")
            return MongoClient(uri, serverSelectionTimeoutMS=SELECTION_MS, appname=APP_NAME)
    except (PyMongoError, ValueError, TypeError, KeyError):
        raise invalid_uri(label) from None


def _direct(host: str, options: Mapping[str, Any], selection_ms: int | None = None) -> Client:
    return MongoClient(
        host,
        directConnection=True,
        appname=APP_NAME,
        datetime_conversion="DATETIME_MS",
        serverSelectionTimeoutMS=SELECTION_MS if selection_ms is None else selection_ms,
        socketTimeoutMS=SOCKET_MS,
        **options,
    )


def _joined(host: str, port: int | None) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
