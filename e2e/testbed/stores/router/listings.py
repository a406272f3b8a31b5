"""Lists of shards, databases, collections and indexes, each from where it is kept."""

from testbed.stores.router.backends import CONFIG, Cluster, refusal
from testbed.stores.router.cursors import Cursors
from testbed.stores.router.placing import NAMESPACE_NOT_FOUND, Handler, empty_cursor, home, without
from testbed.stores.router.wire import Document


class Listings:
    """Lists, of one client."""

    def __init__(self, cluster: Cluster, cursors: Cursors) -> None:
        self._cluster = cluster
        self._cursors = cursors

    def handlers(self) -> dict[str, Handler]:
        """By the name of the command."""
        return {
            "listShards": self._list_shards,
            "listDatabases": self._list_databases,
            "listCollections": self._list_collections,
            "listIndexes": self._list_indexes,
            "dbStats": self._database_stats,
        }

    async def _list_shards(self, database: str, command: Document) -> Document:
        return {"shards": await self._cluster.read_config("shards", {}), "ok": 1.0}

    async def _list_databases(self, database: str, command: Document) -> Document:
        asked = without(command, "authorizedDatabases")
        merged: dict[str, Document] = {}
        for backend in [*(await self._cluster.shards()).values(), self._cluster.config]:
            answer = await self._cluster.ask(backend, asked, "admin")
            for listed in answer["databases"]:
                if listed["name"] == "local" or (listed["name"] in ("config", "admin")) != (
                    backend is self._cluster.config
                ):
                    continue
                known = merged.setdefault(listed["name"], {"name": listed["name"]})
                if "sizeOnDisk" in listed:
                    known["sizeOnDisk"] = known.get("sizeOnDisk", 0) + listed["sizeOnDisk"]
                    known["empty"] = False
        names = [merged[name] for name in sorted(merged)]
        total = sum(int(entry.get("sizeOnDisk", 0)) for entry in names)
        return {"databases": names, "totalSize": total, "ok": 1.0}

    async def _list_collections(self, database: str, command: Document) -> Document:
        server = CONFIG if database in (CONFIG, "admin") else await home(self._cluster, database)
        if server is None:
            return empty_cursor(f"{database}.$cmd.listCollections")
        answer = await self._cluster.ask(await self._cluster.server(server), command, database)
        return self._cursors.noted(server, answer, "getMore")

    async def _list_indexes(self, database: str, command: Document) -> Document:
        namespace = f"{database}.{command['listIndexes']}"
        server = CONFIG if database in (CONFIG, "admin") else await home(self._cluster, database)
        if server is None:
            raise refusal(NAMESPACE_NOT_FOUND, "NamespaceNotFound", f"ns does not exist: {namespace}")
        collection = await self._cluster.collection(namespace) if server != CONFIG else None
        if collection is not None:
            # The primary shard need not hold any of it.
            server = (await self._cluster.owners(collection))[0]
        answer = await self._cluster.ask(await self._cluster.server(server), command, database)
        return self._cursors.noted(server, answer, "getMore")

    async def _database_stats(self, database: str, command: Document) -> Document:
        total: Document = {"db": database}
        for backend in (await self._cluster.shards()).values():
            answer = await self._cluster.ask(backend, command, database)
            for field in ("collections", "objects", "dataSize", "storageSize", "indexes", "indexSize"):
                total[field] = total.get(field, 0) + answer.get(field, 0)
        return {**total, "ok": 1.0}
