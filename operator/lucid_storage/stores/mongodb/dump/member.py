"""The one member of a replica set that a backup reads from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TypeAlias

from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from lucid_storage.errors import StoreUnavailableError
from lucid_storage.stores.mongodb.dump.optimes import OpTime, optime
from lucid_storage.stores.mongodb.errors import UNAUTHORIZED, Attempt, translated

Document: TypeAlias = dict[str, object]
Client: TypeAlias = MongoClient[Document]

REFRESH_SECONDS = 300.0
"""A server forgets a session, with its cursors, that nobody used for 30 minutes."""

CATCH_UP_SECONDS = 60.0
"""A secondary hears within a heartbeat or two what a majority has; one that stands still for longer does not follow."""
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Identity:
    """Which deployment it is."""

    identity: str
    """The replica set's id; without the right to read it, its name and hosts."""
    set_name: str


class PinnedMember:
    """A direct connection to one member. Threads may share it."""

    def __init__(self, client: Client, host: str, label: str, hello: Mapping[str, object]) -> None:
        self.client = client
        self.host = host
        self.label = label
        self.hello = hello
        self._version: str | None = None

    def attempt(self, task: str, action: str | None = None) -> Attempt:
        return Attempt(f"{self.label} ({self.host})", task, action, reads_documents=True)

    def asking(self, task: str, action: str | None = None) -> AbstractContextManager[None]:
        """Errors of the driver become ours. A lost member is a StoreUnavailableError."""
        return translated(self.attempt(task, action), lambda: "the member does not answer")

    @property
    def version(self) -> str:
        """Such as 6.0.5."""
        if self._version is None:
            with self.asking("ask for its version"):
                self._version = str(self.client.admin.command("buildInfo")["version"])
        return self._version

    def identity(self) -> Identity:
        """As the operator sees it, so that both know the same deployment."""
        name = str(self.hello.get("setName"))
        with self.asking("read the replica set's id"), suppress_denied():
            answer = self.client.admin.command("replSetGetConfig")
            return Identity(str(answer["config"]["settings"]["replicaSetId"]), name)
        hosts = self.hello.get("hosts")
        listed = ",".join(sorted(map(str, hosts))) if isinstance(hosts, list) else self.host
        return Identity(f"replicaSet/{name}/{listed}", name)

    def committed(self) -> OpTime:
        """The newest moment that a majority of the members has, as this member knows it.

        Raises StoreUnavailableError when the member can no longer be read from (it recovers, or was removed).
        """
        with self.asking("ask for the majority's optime"):
            hello = self.client.admin.command("hello")
        if not (hello.get("secondary") or hello.get("isWritablePrimary")):
            raise StoreUnavailableError(
                f"{self.label}: {self.host} is neither primary nor secondary any more; it is tried again."
            )
        written = hello.get("lastWrite")
        found = optime(written["majorityOpTime"]) if isinstance(written, Mapping) else None
        if found is None:
            raise StoreUnavailableError(
                f"{self.label}: {self.host} does not know yet what a majority has; it is tried again."
            )
        return found

    def catch_up(self, at: OpTime, check: Callable[[], None], seconds: float | None = None) -> None:
        """Returns when the member knows that a majority has what was written up to `at`, however far it is behind.

        What it lacks must never be taken for what the oplog no longer holds. Raises StoreUnavailableError when it
        stands still for `seconds`, CATCH_UP_SECONDS if not given.
        """
        patience = CATCH_UP_SECONDS if seconds is None else seconds
        reached, end = self.committed().moment, monotonic() + patience
        while reached < at.moment:
            check()
            if monotonic() > end:
                raise StoreUnavailableError(
                    f"{self.label}: {self.host} is {at.seconds - reached[0]} s behind and does not catch up; see to its"
                    " replication, or choose another readPreference. It is tried again."
                )
            sleep(POLL_SECONDS)
            now = self.committed().moment
            if now > reached:
                reached, end = now, monotonic() + patience

    def reaches(self, at: OpTime, check: Callable[[], None], seconds: float) -> bool:
        """Whether the member knows within `seconds` that a majority has something as late as `at`."""
        end = monotonic() + seconds
        while self.committed().moment < at.moment:
            check()
            if monotonic() > end:
                return False
            sleep(POLL_SECONDS)
        return True

    def collection(self, database: str, name: str) -> Collection[Document]:
        """For reading what a majority has."""
        return self.client.get_database(database).get_collection(name, read_concern=ReadConcern("majority"))

    @contextmanager
    def session(self) -> Iterator[ClientSession]:
        """A session that lives as long as the block, however long nothing is read in it."""
        with self.client.start_session(causal_consistency=False) as session:
            ended = threading.Event()
            keeper = threading.Thread(target=self._keep, args=(session, ended), daemon=True)
            keeper.start()
            try:
                yield session
            finally:
                ended.set()
                keeper.join()

    def _keep(self, session: ClientSession, ended: threading.Event) -> None:
        while not ended.wait(REFRESH_SECONDS):
            # Whoever reads notices a lost connection; this one only keeps the server from forgetting.
            with suppress(PyMongoError):
                self.client.admin.command("refreshSessions", [session.session_id])

    def close(self) -> None:
        self.client.close()


@contextmanager
def suppress_denied() -> Iterator[None]:
    """Leaves the block where the login lacks the privilege."""
    try:
        yield
    except OperationFailure as error:
        if error.code != UNAUTHORIZED:
            raise
