"""The configuration of a replica set: made once, and corrected when the members' addresses have changed."""

from collections.abc import Sequence
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure

_NOT_YET_INITIALIZED = 94


def configure(
    client: "MongoClient[dict[str, Any]]",
    set_name: str,
    addresses: Sequence[str],
    election_timeout: float,
    *,
    configsvr: bool = False,
) -> None:
    """Initiates the set through one of its members; does nothing when it has these addresses already.

    A forced change is needed when the machine has another address than at the last start, since then the
    members do not find each other and there is no primary to ask.
    """
    members = [{"_id": index, "host": address} for index, address in enumerate(addresses)]
    settings = {"electionTimeoutMillis": int(election_timeout * 1000), "heartbeatIntervalMillis": 500}
    try:
        config = client.admin.command("replSetGetConfig")["config"]
    except OperationFailure as error:
        if error.code != _NOT_YET_INITIALIZED:
            raise
        first = {"_id": set_name, "members": members, "settings": settings}
        client.admin.command("replSetInitiate", {**first, "configsvr": True} if configsvr else first)
        return
    if [member["host"] for member in config["members"]] == list(addresses):
        return
    config["members"] = members
    config["version"] += 1
    client.admin.command("replSetReconfig", config, force=True)
