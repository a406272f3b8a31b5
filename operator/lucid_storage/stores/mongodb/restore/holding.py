"""The leases of one run as its worker holds them: taken before the first write, renewed by a thread of their own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from uuid import uuid4

from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.stores.mongodb.restore.lease import (
    LEASE_SECONDS,
    founding,
    lost,
    number_in,
    releasing,
    renewing,
    taking,
)
from lucid_storage.stores.mongodb.restore.target import MAJORITY, Target

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 900.0
"""For how long another restore is waited for. One that was given up is over in less."""
_RENEWALS = 6
"""Of the thread, in the time of one lease."""
_TRUSTED = 2 / 3
"""Of a lease's time: the rest is for a batch that is on its way when the trust ends."""

Clock = Callable[[], float]


class Leases:
    """Of all databases of a run, as a context: an error gives them back, and without one they are left to the operator,
    who goes on under the same numbers.

    `check` raises when the run is to end while others are waited for. With `live` each write is preceded by a renewal,
    since it goes under names that others read; else it is enough that the last renewal is fresh. Threads may share it.
    """

    def __init__(
        self,
        uri: str,
        databases: Iterable[str],
        run: str,
        *,
        live: bool = False,
        check: Callable[[], None] = lambda: None,
        seconds: float = LEASE_SECONDS,
        patience: float = PATIENCE_SECONDS,
        clock: Clock = time.monotonic,
    ) -> None:
        self._uri = uri
        self._target = Target(uri, check=self._unless_closed)
        self._databases = sorted(set(databases))
        self._run = run
        self._token = uuid4().hex
        self._live = live
        self._may_wait = check
        self._seconds = seconds
        self._patience = patience
        self._clock = clock
        self._numbers: dict[str, int] = {}
        self._trusted: dict[str, float] = {}
        self._lost: str | None = None
        self.waited = False
        """Another restore had one of them, and is done with it."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="leases", daemon=True)

    def __enter__(self) -> Leases:
        self._thread.start()
        try:
            for database in self._databases:
                self._take(database)
        except BaseException:
            self._close(give_back=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(give_back=error is not None)

    @property
    def numbers(self) -> Mapping[str, int]:
        """By database: what is written now is fenced by them."""
        return dict(self._numbers)

    @property
    def lost(self) -> bool:
        """Somebody took one away: this run writes and undoes nothing more."""
        return self._lost is not None

    def check(self) -> None:
        """Called before each write. Raises LucidError (WorkerLost) when the run was given up."""
        now = self._clock()
        stale = [name for name, until in self._trusted.items() if now >= until]
        self.renew([*self._databases[:1], *stale] if self._live else stale)

    def renew(self, databases: Sequence[str] | None = None) -> None:
        """By the server, now; those of all databases without a choice. Raises LucidError (WorkerLost)."""
        if self._lost is not None:
            raise lost(self._lost)
        for database in sorted(self._numbers) if databases is None else databases:
            # A renewal that was answered late is repeated: too little of the lease may be left for a batch.
            while not self._renewed(database):
                pass

    def _take(self, database: str) -> None:
        self._target.write(database, founding(), f"make the record of the lease of {database}")
        begun = self._clock()
        while not self._taken(database):
            if self._clock() - begun >= self._patience:
                raise RefusedError(
                    f"Another restore writes into {database}, and has not ended in {self._patience / 60:.0f} minutes;"
                    " wait until it has, then restore again.",
                    reason=Reason.RESTORE_BLOCKED,
                )
            if not self.waited:
                logger.info("another restore writes into %s; it is waited for", database)
            self.waited = True
            self._may_wait()
            self._target.pause()

    def _taken(self, database: str) -> bool:
        sent = self._clock()
        answer = self._target.write(
            database, taking(self._run, self._token, self._seconds), f"take the lease of {database}"
        )
        record = answer.get("value")
        number = number_in(record) if isinstance(record, Mapping) else None
        if number is None:
            return False
        self._trusted[database] = sent + self._seconds * _TRUSTED
        self._numbers[database] = number
        return True

    def _renewed(self, database: str) -> bool:
        """Whether enough of it was left when the answer came. Raises LucidError (WorkerLost)."""
        sent = self._clock()
        command = {**renewing(self._numbers[database], self._seconds), "writeConcern": dict(MAJORITY)}
        answer = self._target.command(database, command, f"renew the lease of {database}")
        if not answer.get("n"):
            self._lost = database
            raise lost(database)
        self._trusted[database] = sent + self._seconds * _TRUSTED
        return self._clock() < self._trusted[database]

    def _keep(self) -> None:
        """The thread: a command of any length is covered."""
        while not self._closing.wait(self._seconds / _RENEWALS):
            for database in list(self._numbers):
                try:
                    self._renewed(database)
                except _ClosedError:
                    return
                except LucidError as error:
                    if self.lost:
                        return
                    # The server is away: nobody else can take it over either, and each write looks for itself.
                    logger.warning("the lease of %s was not renewed: %s", database, error.message)

    def _close(self, *, give_back: bool) -> None:
        self._closing.set()
        self._thread.join()
        if give_back and not self.lost:
            with Target(self._uri) as target:
                for database, number in self._numbers.items():
                    try:
                        target.write(database, releasing(number), f"give back the lease of {database}")
                    except LucidError as error:
                        logger.warning("the lease of %s runs out by itself: %s", database, error.message)
        self._target.close()

    def _unless_closed(self) -> None:
        if self._closing.is_set():
            raise _ClosedError


class _ClosedError(Exception):
    """The thread is to end."""
