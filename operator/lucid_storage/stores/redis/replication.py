"""The whole data set of a Redis, as it sends it to a replica: an RDB file made at one moment, read as a stream.

Protocol: Redis's replication.c (7.0). After PSYNC come newlines for as long as the server prepares (it keeps the
connection alive that way), `+FULLRESYNC <id> <offset>`, newlines again, and then the file: `$<bytes>` before one that
lay on disk, `$EOF:<mark of 40 bytes>` before one that is made as it is sent, with the mark again behind it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from lucid_storage.errors import LucidError, NotSupportedError, ServerRefusedError, StoreUnavailableError
from lucid_storage.stores.redis.members import Member, choose
from lucid_storage.stores.redis.sentences import cluster_sentence, loading_sentence
from lucid_storage.stores.redis.wire import READ_BYTES, ErrorReply, Wire, address_of

STALL_SECONDS = 60.0
"""As repl-timeout by default: within it the server sends something, if only a newline."""
MARK_BYTES = 40
_FULL = re.compile(rb"\+?FULLRESYNC ([0-9a-f]{40}) (-?\d+)")
_HEAD = re.compile(rb"\$(?:EOF:([^\r\n]{40})|(\d{1,18}))")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a data set is a picture of."""

    member: str
    """host:port that was read."""
    from_replica: bool
    version: str
    replication_id: str
    offset: int
    taken_at: datetime
    """By our clock, when the server began."""
    estimated_bytes: int
    """The size of the file where the server said it, else of the data in memory."""
    notes: tuple[str, ...]


class DataSetStream:
    """Reads one snapshot. Closes its connection at the end; nothing is left on the server.

    Raises, besides what a connection raises, NotSupportedError for Cluster mode and servers that do not replicate
    to us, and StoreUnavailableError when the stream is cut or stalls for `stall_seconds`.
    """

    def __init__(
        self, url: str, *, label: str, ca_path: str | None = None, stall_seconds: float = STALL_SECONDS
    ) -> None:
        chosen = choose(address_of(url, label, ca_path), label)
        self._wire = chosen.wire
        try:
            _refuse_unready(chosen)
            chosen.wire.wait(stall_seconds)
            _announce(chosen.wire)
            identity, offset = _resync(chosen)
            taken_at = datetime.now(UTC)
            self._mark, self._left = _head(chosen.wire)
        except BaseException:
            self._wire.close()
            raise
        chosen.wire.gather()
        self._tail = chosen.wire.taken()  # received and not passed on yet
        self._ended = False
        self.snapshot = Snapshot(
            member=f"{chosen.wire.address.host}:{chosen.wire.address.port}",
            from_replica=chosen.info.get("role") == "slave",
            version=chosen.info.get("redis_version", ""),
            replication_id=identity,
            offset=offset,
            taken_at=taken_at,
            estimated_bytes=self._left or int(chosen.info.get("used_memory_dataset") or 0),
            notes=chosen.notes,
        )

    def read(self, size: int = READ_BYTES) -> bytes:
        """Some bytes of the file, b"" behind its last one."""
        if self._ended:
            return b""
        data = self._read_marked() if self._mark else self._read_counted(size)
        if not data:
            self._ended = True
            self._wire.close()
        return data

    def close(self) -> None:
        self._wire.close()

    def _read_counted(self, size: int) -> bytes:
        if not self._left:
            return b""
        data = self._tail[: self._left] or self._receive(min(size, self._left))
        self._tail = b""
        self._left -= len(data)
        return data

    def _read_marked(self) -> bytes:
        """All but what could be the beginning of the mark: its parts may come in any number of reads."""
        while True:
            end = self._tail.find(self._mark)
            if end >= 0:
                self._refuse_more(self._tail[end + MARK_BYTES :])
                data, self._tail = self._tail[:end], self._mark
                return data
            if len(self._tail) >= MARK_BYTES:
                data, self._tail = self._tail[: 1 - MARK_BYTES], self._tail[1 - MARK_BYTES :]
                return data
            self._tail += self._receive(READ_BYTES)

    def _refuse_more(self, rest: bytes) -> None:
        """Behind the mark a server may only keep the connection alive, or go on with commands to replicate."""
        if rest.strip(b"\r\n")[:1] not in {b"", b"*"}:
            raise self._cut("sent something behind the end of its data set")

    def _receive(self, size: int) -> bytes:
        try:
            return self._wire.some(size)
        except StoreUnavailableError as error:
            if isinstance(error.__cause__, TimeoutError):
                raise self._cut("stopped sending its data set") from error
            raise self._cut("ended the connection in the middle of its data set") from error

    def _cut(self, what: str) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"{self._wire.subject} {what}; see its log, and whether repl-timeout or the replicas' "
            "client-output-buffer-limit is too low for the speed of the destination."
        )


def _refuse_unready(chosen: Member) -> None:
    subject, info = chosen.wire.subject, chosen.info
    if info.get("cluster_enabled") == "1" or info.get("redis_mode") == "cluster":
        raise NotSupportedError(cluster_sentence(subject))
    if info.get("loading") == "1":
        raise StoreUnavailableError(loading_sentence(subject))


def _announce(wire: Wire) -> None:
    """What kind of replica we are. A server that is too old for `rdb-only` sends commands behind the file."""
    for option in (("rdb-only", "1"), ("capa", "eof"), ("capa", "psync2")):
        wire.send([("REPLCONF", *option)])
        reply = wire.reply()
        if isinstance(reply, ErrorReply):
            error = wire.refusal(reply)
            if not isinstance(error, ServerRefusedError):
                raise _explained(error, wire)


def _resync(chosen: Member) -> tuple[str, int]:
    """The replication id and offset that the file stands for."""
    wire = chosen.wire
    wire.send([("PSYNC", "?", "-1")])
    line = _awaited(wire)
    found = _FULL.fullmatch(line)
    if found:
        return found[1].decode(), int(found[2])
    raise _explained(_refusal(line, wire), wire)


def _head(wire: Wire) -> tuple[bytes, int]:
    """The mark that will end the file, or its length."""
    line = _awaited(wire)
    found = _HEAD.fullmatch(line)
    if found is None:
        raise _explained(_refusal(line, wire), wire)
    return (found[1], 0) if found[1] else (b"", int(found[2]))


def _awaited(wire: Wire) -> bytes:
    try:
        while not (line := wire.line()):
            pass
    except StoreUnavailableError as error:
        if isinstance(error.__cause__, TimeoutError):
            raise
        raise StoreUnavailableError(
            f"{wire.subject} ended the connection before it sent its data set; its log says why "
            "(BGSAVE may have failed, for want of memory or disk)."
        ) from error
    return line


def _refusal(line: bytes, wire: Wire) -> LucidError:
    if not line.startswith(b"-"):
        return StoreUnavailableError(f"{wire.subject} does not speak Redis's replication protocol.")
    return wire.refusal(ErrorReply(line[1:]))


def _explained(error: LucidError, wire: Wire) -> LucidError:
    if isinstance(error, NotSupportedError):
        return NotSupportedError(
            f"{wire.subject} does not replicate to us (PSYNC is disabled or renamed, as managed services do); "
            "use the provider's own snapshots."
        )
    return error
