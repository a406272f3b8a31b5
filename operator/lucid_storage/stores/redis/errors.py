"""Redis's errors in our words: the one place where driver errors are translated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis import exceptions as driver

from lucid_storage.errors import LoginFailedError, LucidError, StoreUnavailableError
from lucid_storage.stores.redis.sentences import (
    PASSING,
    denied,
    login_sentence,
    refused,
    unreachable_sentence,
)


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
    text = str(error)
    if isinstance(error, driver.NoPermissionError):
        return denied(text, subject)
    word = text.split(" ", 1)[0]
    if isinstance(error, driver.AuthenticationError) or word in {"WRONGPASS", "NOAUTH"}:
        return LoginFailedError(login_sentence(text, subject))
    for prefix, sentence in PASSING.items():
        if isinstance(error, _PASSING_CLASSES.get(prefix, ())) or word == prefix:
            return StoreUnavailableError(f"{subject} {sentence}.")
    if isinstance(error, driver.ResponseError):
        return refused(text, subject)
    return StoreUnavailableError(
        unreachable_sentence(error, subject, timeouts=(TimeoutError, driver.TimeoutError))
    )


# The driver strips the first word of replies for which it has a class of its own.
_PASSING_CLASSES: dict[str, tuple[type[Exception], ...]] = {
    "LOADING": (driver.BusyLoadingError,),
    "READONLY": (driver.ReadOnlyError,),
    "MASTERDOWN": (driver.MasterDownError,),
    "OOM": (driver.OutOfMemoryError,),
    "TRYAGAIN": (driver.TryAgainError,),
    "CLUSTERDOWN": (driver.ClusterDownError,),
}
