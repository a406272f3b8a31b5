"""Who answers which command; one Session a client."""

from datetime import UTC, datetime

from testbed.stores.router.backends import Cluster, refusal
from testbed.stores.router.cursors import Cursors
from testbed.stores.router.definitions import Definitions
from testbed.stores.router.documents import READS, WRITES, Documents
from testbed.stores.router.listings import Listings
from testbed.stores.router.placing import Handler
from testbed.stores.router.wire import LARGEST_MESSAGE, Document

LABEL = "stand-in of a test bed for mongos, not a mongos"
WIRE_VERSION = 17  # of MongoDB 6.0

# What drivers add to each command for sessions and gossip; a stand-in without sessions passes none of it on.
_ENVELOPE = frozenset(
    {"$db", "$readPreference", "$clusterTime", "$client", "lsid", "txnNumber", "apiVersion"}
)


class Session:
    """Runs the commands of one client."""

    def __init__(self, cluster: Cluster, cursors: Cursors) -> None:
        self._cluster = cluster
        self._cursors = cursors
        self._handlers = self._table()

    async def run(self, request: Document) -> Document:
        name = next(iter(request))
        database = str(request.get("$db", "admin"))
        command = {field: value for field, value in request.items() if field not in _ENVELOPE}
        handler = self._handlers.get(name)
        if handler is None:
            raise refusal(59, "CommandNotFound", f"the {LABEL} does not know the command {name}")
        return await handler(database, command)

    def _table(self) -> dict[str, Handler]:
        documents = Documents(self._cluster, self._cursors)
        hello = dict.fromkeys(("hello", "isMaster", "ismaster"), self._hello)
        relayed = dict.fromkeys(("ping", "getParameter", "serverStatus", "hostInfo"), self._relayed)
        build_info = dict.fromkeys(("buildInfo", "buildinfo"), self._build_info)
        own: dict[str, Handler] = {
            "connectionStatus": self._connection_status,
            "endSessions": self._nothing,
            "killCursors": self._kill_cursors,
            "getMore": self._get_more,
            "count": documents.count,
        }
        return {
            **hello,
            **relayed,
            **build_info,
            **own,
            **dict.fromkeys((*READS, *WRITES), documents.run),
            **Definitions(self._cluster).handlers(),
            **Listings(self._cluster, self._cursors).handlers(),
        }

    async def _hello(self, database: str, command: Document) -> Document:
        return {
            "isWritablePrimary": True,
            "ismaster": True,
            "msg": "isdbgrid",
            "helloOk": True,
            "maxBsonObjectSize": 16 * 1024 * 1024,
            "maxMessageSizeBytes": LARGEST_MESSAGE,
            "maxWriteBatchSize": 100_000,
            "localTime": datetime.now(UTC),
            "minWireVersion": 0,
            "maxWireVersion": WIRE_VERSION,
            "readOnly": False,
            "ok": 1.0,
        }

    async def _build_info(self, database: str, command: Document) -> Document:
        answer = await self._relayed(database, command)
        return {**answer, "standIn": LABEL}

    async def _connection_status(self, database: str, command: Document) -> Document:
        return {"authInfo": {"authenticatedUsers": [], "authenticatedUserRoles": []}, "ok": 1.0}

    async def _nothing(self, database: str, command: Document) -> Document:
        return {"ok": 1.0}

    async def _relayed(self, database: str, command: Document) -> Document:
        """As the config server answers it."""
        return await self._cluster.ask(self._cluster.config, command, database)

    async def _get_more(self, database: str, command: Document) -> Document:
        return await self._cursors.more(self._cluster, database, command)

    async def _kill_cursors(self, database: str, command: Document) -> Document:
        return await self._cursors.killed(self._cluster, database, command)
