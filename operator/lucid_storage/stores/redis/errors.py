"""Redis's errors in our words: the one place where driver errors are translated."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis import exceptions as driver

from lucid_storage.errors import (
    AccessDeniedError,
    LoginFailedError,
    LucidError,
    NotSupportedError,
    ServerRefusedError,
    StoreUnavailableError,
)

_NAMED_COMMAND = re.compile(r"'([a-z|._-]{1,40})'")

# Replies that name a passing state of the server, by their first word, and what to do about it.
_PASSING = {
    "LOADING": "is loading its data into memory; it is asked again when that is done",
    "READONLY": "is a read-only replica; point the connection at the master",
    "MASTERDOWN": "is a replica without its master; repair the replication or connect to the master",
    "MISCONF": "refuses writes because it cannot save to disk; free disk space or see its log",
    "NOREPLICAS": "refuses writes because it has too few replicas; bring its replicas back",
    "BUSY": "is busy with a script; wait for it or end it with SCRIPT KILL",
    "OOM": "is out of memory; raise maxmemory or choose an eviction policy",
    "TRYAGAIN": "is moving data; it is asked again",
    "CLUSTERDOWN": "is a cluster that is down; Cluster mode is not supported, use a single Redis",
    "DENIED": "runs in protected mode and refuses remote clients; set a password or its bind address",
}


@asynccontextmanager
async def answering(subject: str, seconds: float) -> AsyncIterator[None]:
    """Bounds what is awaited inside to `seconds` and raises only our errors.

    `subject` begins the sentences, such as "Redis (cache) at redis:6379".
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except (driver.RedisError, OSError) as error:  # TimeoutError is an OSError
        raise translate(error, subject) from error


def translate(error: Exception, subject: str) -> LucidError:
    """The error as a condition can carry it. Never quotes keys, values or the login."""
    if isinstance(error, driver.NoPermissionError):
        return _denied(error, subject)
    text = str(error)
    word = text.split(" ", 1)[0]
    if isinstance(error, driver.AuthenticationError) or word in {"WRONGPASS", "NOAUTH"}:
        return LoginFailedError(_login_sentence(text, subject))
    for prefix, sentence in _PASSING.items():
        if isinstance(error, _PASSING_CLASSES.get(prefix, ())) or word == prefix:
            return StoreUnavailableError(f"{subject} {sentence}.")
    if isinstance(error, driver.ResponseError):
        return _refused(text, subject)
    return StoreUnavailableError(_unreachable_sentence(error, subject))


# The driver strips the first word of replies for which it has a class of its own.
_PASSING_CLASSES: dict[str, tuple[type[Exception], ...]] = {
    "LOADING": (driver.BusyLoadingError,),
    "READONLY": (driver.ReadOnlyError,),
    "MASTERDOWN": (driver.MasterDownError,),
    "OOM": (driver.OutOfMemoryError,),
    "TRYAGAIN": (driver.TryAgainError,),
    "CLUSTERDOWN": (driver.ClusterDownError,),
}


def _denied(error: Exception, subject: str) -> AccessDeniedError:
    text = str(error)
    named = _NAMED_COMMAND.search(text)
    if named:
        command = named[1].replace("|", " ").upper()
        return AccessDeniedError(
            f"{subject} does not let the login run {command}; allow it in the user's ACL."
        )
    if "key" in text:
        return AccessDeniedError(
            f"{subject} does not let the login use the keys; allow their pattern in the user's ACL."
        )
    return AccessDeniedError(f"{subject} refused a command that the user's ACL does not allow.")


def _login_sentence(text: str, subject: str) -> str:
    if "without any password configured" in text:
        return f"{subject} has no password but the connection gives one; set it there or leave it out."
    if "Authentication required" in text or text.startswith("NOAUTH"):
        return f"{subject} asks for a password; give one in the connection."
    return f"{subject} refused the login; check user and password of the connection."


def _refused(text: str, subject: str) -> LucidError:
    if "unknown command" in text:
        named = re.search(r"unknown command '?`?([A-Za-z|._-]{1,40})", text)
        command = f"the command {named[1].upper()}" if named else "a command"
        return NotSupportedError(
            f"{subject} does not know {command}; it may be renamed, disabled or too old."
        )
    if "DB index" in text:
        return ServerRefusedError(f"{subject} has no database of that number; change it in the connection.")
    if text.startswith(("MOVED", "CROSSSLOT", "ASK")):
        return NotSupportedError(cluster_sentence(subject))
    # An error reply may quote arguments, so only its first word is repeated.
    return ServerRefusedError(f"{subject} answered with the error {text.split(' ', 1)[0][:40]}; see its log.")


def loading_sentence(subject: str) -> str:
    return f"{subject} {_PASSING['LOADING']}."


def cluster_sentence(subject: str) -> str:
    return f"{subject} runs in Cluster mode, which is not supported; use a single Redis or one with replicas."


def _unreachable_sentence(error: BaseException, subject: str) -> str:
    causes = list(_chain(error))
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return f"{subject} cannot be found; check the host name of the connection."
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return f"{subject} has a certificate that does not fit this host or CA; check both."
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return f"{subject} does not speak TLS as asked for; use redis:// without TLS or set up TLS there."
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return f"{subject} refuses connections; check that it runs and listens there."
    if any("max number of clients" in str(cause) for cause in causes):
        return f"{subject} has no free client connection; raise its maxclients."
    if any(isinstance(cause, TimeoutError | driver.TimeoutError) for cause in causes):
        return f"{subject} does not answer in time; check that it runs and can be reached."
    return f"{subject} closed the connection; it is asked again."


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
