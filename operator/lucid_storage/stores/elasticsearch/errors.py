"""Elasticsearch's errors in our words: the one place where driver errors are translated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from elasticsearch import ApiError, ConnectionTimeout, TransportError, UnsupportedProductError

from lucid_storage.errors import LucidError, NotSupportedError, ServerRefusedError
from lucid_storage.stores.elasticsearch.answers import kind_and_sentence, refusal, unreachable


@asynccontextmanager
async def answering(subject: str, seconds: float) -> AsyncIterator[None]:
    """Bounds what is awaited inside to `seconds` and raises only our errors.

    `subject` begins the sentences, such as "Elasticsearch (search) at search:9200".
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except (ApiError, TransportError, OSError) as error:  # TimeoutError is an OSError
        raise translate(error, subject) from error


def translate(error: Exception, subject: str) -> LucidError:
    """The error as a condition can carry it; its own sentence bounded, without values of documents."""
    if isinstance(error, UnsupportedProductError):
        return NotSupportedError(f"{subject} is not Elasticsearch; change the connection.")
    if not isinstance(error, ApiError):
        causes = _chain(error)
        if any(
            isinstance(cause, ConnectionTimeout) for cause in causes
        ):  # no TimeoutError in the driver's tree
            causes.append(TimeoutError())
        return unreachable(causes, subject)
    return refusal(error.meta.status, error.body, subject)


def error_kind(error: ApiError) -> str:
    """The server's name of the error, such as resource_already_exists_exception, or ""."""
    return kind_and_sentence(error.body)[0]


def vanished(what: str, subject: str) -> LucidError:
    """For a write to something that went away since it was looked at: looking again helps."""
    lost = ServerRefusedError(f"{what} is not there any more at {subject}; it is looked at again.")
    lost.stalled = False
    return lost


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what it came from; the driver keeps its causes in `errors`, aiohttp in `os_error`."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        candidate = waiting.pop(0)
        if isinstance(candidate, BaseException) and not any(candidate is other for other in found):
            found.append(candidate)
            waiting += [candidate.__cause__, candidate.__context__, getattr(candidate, "os_error", None)]
            waiting += list(getattr(candidate, "errors", ()) or ())
    return found
