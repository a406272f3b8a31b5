"""Driver errors become ours, here and nowhere else.

Server texts can quote values of users' documents (duplicate keys, failing expressions) and whole commands. So
a text is passed on only for codes that speak of the definition, never when it stems from reading documents.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bson.errors import BSONError
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    ExecutionTimeout,
    InvalidName,
    InvalidOperation,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from lucid_storage.errors import (
    AccessDeniedError,
    DuplicateKeysError,
    IndexConflictError,
    LoginFailedError,
    LucidError,
    NotSupportedError,
    Reason,
    ServerRefusedError,
    StoreUnavailableError,
)

WORDS_LIMIT = 600
"""Characters of a server's text that are passed on."""

NAMESPACE_NOT_FOUND = 26
INDEX_NOT_FOUND = 27
NAMESPACE_EXISTS = 48
NOT_SUPPORTED_ON_VIEW = 166
UUID_MISMATCH = 361
UNAUTHORIZED = 13
MAX_TIME_EXPIRED = 50
RESHARDING_ABORTED = 341
CANNOT_CREATE_INDEX = 67

_LOGIN = frozenset({11, 18, 334, 391, 8000})
_DUPLICATES = frozenset({11000, 11001, 12582, 359})
_CONFLICTS = frozenset({85, 86})
_UNSUPPORTED = frozenset({20, 59, 115, 238, 40573, 5739101})
_TRANSIENT = {
    46: "a lock is held by another operation",
    24: "a lock could not be had in time",
    43: "the cursor was closed by the server",
    MAX_TIME_EXPIRED: "it took longer than allowed",
    64: "a majority of the members did not confirm the write in time",
    100: "there are too few members to confirm the write",
    112: "another write got in the way",
    117: "a conflicting operation runs",
    133: "no member may be read from now",
    134: "majority reads are not possible yet",
    237: "the cursor was killed",
    276: "the index build was aborted by somebody or by a step-down",
    338: "another collection is being resharded",
    11601: "the operation was interrupted",
    12586: "an operation runs in the background on this database",
    12587: "an operation runs in the background on this collection",
    14031: "the server's disk is nearly full; free some space",
    365: "the server is overloaded",
    13436: "the member is not ready to be read from",
}
NO_PRIMARY = frozenset(
    {6, 7, 89, 91, 189, 262, 9001, 10107, 10058, 11600, 11602, 13435, 63, 13388, 234, 202, 317}
)
# AlreadyInitialized, ShardNotFound, NamespaceNotSharded, ZoneStillInUse, RangeOverlapConflict,
# CannotDropShardKeyIndex, and fields that a time series cannot be sharded by.
_SHARDING = frozenset({23, 70, 118, 163, 178, 370, 5914001})
# Codes whose text speaks of the definition that was sent.
_DEFINITION = frozenset(
    {
        2,
        4,
        9,
        14,
        15,
        16,
        17,
        28,
        29,
        38,
        40,
        52,
        54,
        55,
        56,
        57,
        58,
        67,
        72,
        73,
        76,
        103,
        104,
        121,
        129,
        168,
        197,
    }
    | {NOT_SUPPORTED_ON_VIEW, 10065, 13113, 15947, 16020, 16872, 17276, 31249, 31250, 31253, 31254}
    | {
        40156,
        40181,
        40218,
        40234,
        40323,
        40324,
        40353,
        40412,
        40413,
        40414,
        40415,
        51024,
        51075,
        51091,
        51108,
        5626500,
    }
    | _SHARDING
)
_FROM_DOCUMENTS = re.compile(
    r"dup key|Index build failed|PlanExecutor error|Executor error|geo keys|language override", re.IGNORECASE
)
# Codes of index builds that a document made fail; the server's text would quote the document.
_UNINDEXABLE = {
    16755: "a document's value for the geo field is not valid GeoJSON or coordinates",
    16766: "a document holds an array in the hashed field",
    13068: "a document's value for the 2d field is not a pair of coordinates",
    13026: "a document's value for the 2d field is not a pair of numbers",
    13027: "a document's point lies outside of the index's bounds",
    171: "a document holds arrays in two indexed fields",
    17261: "a document's language field is not text",
    17262: "a document names a language that text indexes do not know",
    10088: "a document holds arrays in two indexed fields",
}
# Codes whose text is no help, or names databases of others.
_OWN_WORDS = {
    13297: "a database is there whose name differs only in upper and lower case; write the name as it is there",
    291: "the server's parameter notablescan forbids to read all documents; turn it off until this is done",
    371: "the server takes no writes of users (setUserWriteBlockMode); let it take them until this is done",
}
# InternalError, UnknownError, FileRenameFailed, OperationIncomplete, OperationFailed, CommandFailed,
# ExceededMemoryLimit, NoQueryExecutionPlans, QueryExceededMemoryLimitNoDiskUseAllowed, UserWritesBlocked,
# TransactionTooLargeForCache: limits, settings and faults of one server.
_OF_THE_SERVER = frozenset({0, 1, 8, 39, 93, 96, 125, 146, 291, 292, 371, 388})
_ACTIONS = {
    "listCollections": "listCollections",
    "listIndexes": "listIndexes",
    "create": "createCollection",
    "createIndexes": "createIndex",
    "collMod": "collMod",
    "drop": "dropCollection",
    "dropIndexes": "dropIndex",
    "aggregate": "find",
    "find": "find",
    "listDatabases": "listDatabases",
    "replSetGetConfig": "replSetGetConfig",
}
_UNAUTHORIZED_TEXT = re.compile(
    r"not authorized on (?P<database>\S+) to execute command \{ ?(?P<command>\w+)"
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was tried, for the sentence: `label` names the connection, `task` continues "cannot ..."."""

    label: str
    task: str
    action: str | None = None
    """The privilege action where the command's name does not tell it."""
    reads_documents: bool = False
    """The server's words may quote documents: pass none on."""
    content: bool = False
    """What is sent stands in a backup: what the server refuses of it is ContentRefused."""


Reach = Callable[[], str | OperationFailure]
"""Says which hosts were tried and why each failed, without credentials; or the refusal by which the driver counts a
server as unknown for some seconds, which a failed login is.
"""


@contextmanager
def translated(attempt: Attempt, reach: Reach = lambda: "") -> Iterator[None]:
    """Raises our error for whatever the driver raises inside."""
    try:
        yield
    except (PyMongoError, BSONError) as error:
        raise translate(error, attempt, reach) from None
    except OverflowError:
        raise ServerRefusedError(
            f"{_cannot(attempt)}: a number in it is beyond 64 bits; correct it.", reason=Reason.INVALID_SPEC
        ) from None


def translate(error: PyMongoError | BSONError, attempt: Attempt, reach: Reach = lambda: "") -> LucidError:
    """Our error for a driver's one."""
    if isinstance(error, OperationFailure) and not isinstance(error, ExecutionTimeout):
        return _from_server(error, attempt)
    if isinstance(error, NotPrimaryError):
        return _unavailable(attempt, "the server is not the primary now")
    reached = reach() if isinstance(error, ConnectionFailure) else ""
    if isinstance(reached, OperationFailure):
        return _from_server(reached, attempt)
    if isinstance(error, ServerSelectionTimeoutError):
        return _unavailable(attempt, reached or why_unreachable(str(error)))
    if isinstance(error, WaitQueueTimeoutError):
        return _unavailable(attempt, "all connections are busy", everywhere=False)
    if isinstance(error, ConnectionFailure):
        return _unavailable(attempt, f"the connection was lost ({why_unreachable(str(error))})")
    if isinstance(error, ExecutionTimeout):
        return _unavailable(attempt, _TRANSIENT[MAX_TIME_EXPIRED], everywhere=False)
    if isinstance(error, ConfigurationError):
        return _from_configuration(error, attempt)
    if isinstance(error, InvalidOperation):
        return _unavailable(attempt, "the connection was closed")
    if isinstance(error, InvalidName | BSONError):
        return ServerRefusedError(
            f"{_cannot(attempt)}: a name or value in it cannot be sent, or it is too large; correct it.",
            reason=Reason.INVALID_SPEC,
        )
    return _unavailable(attempt, f"the driver failed ({type(error).__name__})")


def why_unreachable(text: str) -> str:
    """The class of a network failure, in words without hosts or credentials."""
    lowered = text.lower()
    for marks, words in (
        (("ssl", "tls", "certificate"), "TLS handshake failed: check the CA and the host name"),
        (("refused", "errno 111"), "connection refused"),
        (("errno 101", "errno 113", "unreachable", "no route"), "no route to the host"),
        (
            ("name or service", "getaddrinfo", "nodename", "resolution", "no address", "dns"),
            "host name not found",
        ),
        (("timed out", "timeout"), "no answer in time"),
        (("reset", "closed", "broken pipe", "cancelled"), "connection closed"),
        (("not a member", "replica set name", "setname"), "not a member of the named replica set"),
    ):
        if any(mark in lowered for mark in marks):
            return words
    return "no answer"


def _from_server(error: OperationFailure, attempt: Attempt) -> LucidError:
    code, details = error.code or 0, error.details or {}
    text = str(details.get("errmsg", ""))
    if code in _LOGIN:
        return LoginFailedError(
            f"{attempt.label} refused the login; check user name, password and authSource of the connection."
        )
    if code == UNAUTHORIZED:
        return _denied(text, attempt)
    if code in NO_PRIMARY or error.has_error_label("RetryableWriteError"):
        return _unavailable(attempt, "the server is stepping down, starting or stopping")
    if code in _TRANSIENT:
        return _unavailable(attempt, _TRANSIENT[code], everywhere=False)
    if code in _DUPLICATES:
        return DuplicateKeysError(
            f"{_cannot(attempt)}: several documents have the same key; remove the duplicates."
        )
    if code in _CONFLICTS or (code == 67 and "only one text index" in text):
        return IndexConflictError(
            f"{_cannot(attempt)}: {words(text)}; declare that index as it is, or drop it."
        )
    if code in (NAMESPACE_NOT_FOUND, UUID_MISMATCH):
        return not_ready(attempt)
    if code == INDEX_NOT_FOUND:
        return _looked_away(ServerRefusedError(f"{_cannot(attempt)}: the index is not there any more."))
    if code in _UNSUPPORTED:
        return NotSupportedError(f"{_cannot(attempt)}: {_safe(code, text, attempt)}")
    if attempt.content and refuses_content(code):
        return _content_refused(code, text, attempt)
    return ServerRefusedError(f"{_cannot(attempt)}: {_safe(code, text, attempt)}")


def refuses_content(code: int) -> bool:
    """Whether a refusal is of what was sent, and not about rights, the connection, room, time or settings."""
    others = (_LOGIN, NO_PRIMARY, _TRANSIENT, _UNSUPPORTED, _OF_THE_SERVER)
    gone = (UNAUTHORIZED, NAMESPACE_NOT_FOUND, INDEX_NOT_FOUND, UUID_MISMATCH)
    return code not in gone and not any(code in codes for codes in others)


def _content_refused(code: int, text: str, attempt: Attempt) -> ServerRefusedError:
    said = code in _DEFINITION and not _FROM_DOCUMENTS.search(text)
    what = words(text) if said else _UNINDEXABLE.get(code, f"the server answered with error code {code}")
    return ServerRefusedError(
        f"{_cannot(attempt)}: {what}; restore into a server of the version that was backed up, or another backup.",
        reason=Reason.CONTENT_REFUSED,
    )


def not_ready(attempt: Attempt) -> ServerRefusedError:
    """The collection is not there, or is another one than was looked at. The next look sorts it out."""
    return _looked_away(
        ServerRefusedError(
            f"{_cannot(attempt)}: the collection is not there or was made anew in between; create it first.",
            reason=Reason.COLLECTION_NOT_READY,
        )
    )


def _looked_away(error: ServerRefusedError) -> ServerRefusedError:
    # The state changed between look and write: another look helps, so this one is tried again with back-off.
    error.stalled = False
    return error


_SHARD_KEY = re.compile(r"cannot create index with .+ over .+ with shard key pattern .+")


def _safe(code: int, text: str, attempt: Attempt) -> str:
    refused = _SHARD_KEY.search(text)
    if code == CANNOT_CREATE_INDEX and refused is not None:
        # It comes as the failure of a build, and no document has to do with it.
        return f"{words(refused[0])}; a shard sees only its own documents, so begin the index with the shard key."
    if code == CANNOT_CREATE_INDEX and "too many indexes" in text:
        return "the collection has 64 indexes, the most that MongoDB allows; drop one that no query needs."
    if code in _OWN_WORDS:
        return f"{_OWN_WORDS[code]}."
    if code == RESHARDING_ABORTED:
        return "it was aborted, and the old key stays; change the declaration to have it tried again."
    if code in _UNINDEXABLE:
        return f"{_UNINDEXABLE[code]}; correct the document."
    if not attempt.reads_documents and _FROM_DOCUMENTS.search(text):
        return (
            f"a document that is there makes it fail (error code {code}); let the declaration cope with such a"
            " document, or correct the document."
        )
    if attempt.reads_documents or code not in _DEFINITION:
        return f"the server answered with error code {code}."
    return f"{words(text)}; correct the declaration."


def words(text: str) -> str:
    """A server's text on one line, cut to a bounded length."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= WORDS_LIMIT else f"{line[: WORDS_LIMIT - 3]}..."


def _denied(text: str, attempt: Attempt) -> AccessDeniedError:
    match = _UNAUTHORIZED_TEXT.search(text)
    if match is None:
        wanted = f"action {attempt.action}" if attempt.action else "the privilege"
        return AccessDeniedError(f"{_cannot(attempt)}: the login lacks {wanted}; grant it.")
    command, database = match["command"], match["database"]
    action = attempt.action or _ACTIONS.get(command, command)
    return AccessDeniedError(
        f"{_cannot(attempt)}: the login lacks the action {action} on database {database}; grant it."
    )


def _from_configuration(error: ConfigurationError, attempt: Attempt) -> LucidError:
    text = str(error)
    if "wire version" in text:
        return NotSupportedError(
            f"{_cannot(attempt)}: this MongoDB's version is not supported by the driver; upgrade it."
        )
    if any(mark in text.lower() for mark in ("dns", "resol", "srv", "nameserver")):
        return _unavailable(attempt, "the host names of the connection string cannot be looked up")
    return _secret_invalid(attempt.label)


def _secret_invalid(label: str) -> LucidError:
    return LucidError(
        f"{label}: the connection string is not valid; write it as mongodb://user:password@host:port/?options.",
        reason=Reason.SECRET_INVALID,
    )


def invalid_uri(label: str) -> LucidError:
    """The connection string cannot be parsed. The driver's own text could quote parts of it."""
    return _secret_invalid(label)


def no_answer(attempt: Attempt, seconds: float) -> StoreUnavailableError:
    """The server keeps the connection open and says nothing."""
    return _unavailable(attempt, f"the server did not answer within {seconds:g} s")


def _unavailable(attempt: Attempt, why: str, *, everywhere: bool = True) -> StoreUnavailableError:
    error = StoreUnavailableError(f"{_cannot(attempt)}: {why}; it is tried again.")
    error.everywhere = everywhere
    return error


def _cannot(attempt: Attempt) -> str:
    return f"{attempt.label}: cannot {attempt.task}"
