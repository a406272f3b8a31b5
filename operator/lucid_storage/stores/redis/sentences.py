"""What a server's error replies mean, and why it cannot be reached, in our words. Knows no driver."""

from __future__ import annotations

import re
import socket
import ssl
from urllib.parse import urlsplit

from lucid_storage.errors import (
    AccessDeniedError,
    LoginFailedError,
    LucidError,
    NotSupportedError,
    Reason,
    RefusedError,
    ServerRefusedError,
    StoreUnavailableError,
)

_NAMED_COMMAND = re.compile(r"'([a-z|._-]{1,40})'")

PASSING = {
    "LOADING": "is loading its data into memory; it is asked again when that is done",
    "READONLY": "is a read-only replica; point the connection at the master",
    "MASTERDOWN": "is a replica without its master; repair the replication or connect to the master",
    "NOMASTERLINK": "is a replica without its master; repair the replication or connect to the master",
    "MISCONF": "refuses writes because it cannot save to disk; free disk space or see its log",
    "NOREPLICAS": "refuses writes because it has too few replicas; bring its replicas back",
    "BUSY": "is busy with a script; wait for it or end it with SCRIPT KILL",
    "OOM": "is out of memory; raise maxmemory or choose an eviction policy",
    "TRYAGAIN": "is moving data; it is asked again",
    "CLUSTERDOWN": "is a cluster that is down; Cluster mode is not supported, use a single Redis",
    "DENIED": "runs in protected mode and refuses remote clients; set a password or its bind address",
}
"""Replies that name a passing state of the server, by their first word, and what to do about it."""


def subject_of(url: str, label: str) -> str:
    """How the sentences about this Redis begin: label, host and port, never the login."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 6379
        (host or "").encode("idna")  # as the resolver does; its UnicodeError is a ValueError
    except ValueError as error:
        raise unusable_url(label) from error
    if parts.scheme not in {"redis", "rediss"} or not host:
        raise unusable_url(label)
    return f"Redis ({label}) at {f'[{host}]' if ':' in host else host}:{port}"


def unusable_url(label: str) -> RefusedError:
    return RefusedError(
        f"The URL of Redis ({label}) cannot be used; write it as redis://user:password@host:port/database, "
        "or rediss:// for TLS, with special characters of the password percent-encoded.",
        reason=Reason.SECRET_INVALID,
    )


def reply_error(text: str, subject: str) -> LucidError:
    """An error reply, as the server wrote it, as a condition can carry it."""
    word = text.split(" ", 1)[0]
    if word == "NOPERM":
        return denied(text, subject)
    if word in {"WRONGPASS", "NOAUTH"} or "AUTH <password>" in text or "invalid password" in text:
        return LoginFailedError(login_sentence(text, subject))
    if word in PASSING:
        return StoreUnavailableError(f"{subject} {PASSING[word]}.")
    if "max number of clients" in text:
        return StoreUnavailableError(no_clients_sentence(subject))
    return refused(text.removeprefix("ERR "), subject)


def denied(text: str, subject: str) -> AccessDeniedError:
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


def login_sentence(text: str, subject: str) -> str:
    if "without any password configured" in text:
        return f"{subject} has no password but the connection gives one; set it there or leave it out."
    if "Authentication required" in text or text.startswith("NOAUTH"):
        return f"{subject} asks for a password; give one in the connection."
    return f"{subject} refused the login; check user and password of the connection."


def refused(text: str, subject: str) -> LucidError:
    """An error reply that is neither a passing state nor about the login."""
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
    return f"{subject} {PASSING['LOADING']}."


def cluster_sentence(subject: str) -> str:
    return f"{subject} runs in Cluster mode, which is not supported; use a single Redis or one with replicas."


def no_clients_sentence(subject: str) -> str:
    return f"{subject} has no free client connection; raise its maxclients."


def unreachable_sentence(
    error: BaseException, subject: str, timeouts: tuple[type[BaseException], ...] = (TimeoutError,)
) -> str:
    """Why it cannot be reached, from the error and what caused it."""
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
        return no_clients_sentence(subject)
    if any(isinstance(cause, timeouts) for cause in causes):
        return f"{subject} does not answer in time; check that it runs and can be reached."
    return f"{subject} closed the connection; it is asked again."


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def another_sentence(subject: str) -> str:
    """Another server answers under the name."""
    return f"{subject} is another Redis than a moment ago; its keys are counted before any gets a TTL."
