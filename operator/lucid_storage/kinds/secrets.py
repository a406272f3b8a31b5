"""Connection Secrets: read when they are needed, kept for half a minute, used only with the label that allows it."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from lucid_storage.errors import NotAllowedError, Reason, RefusedError
from lucid_storage.kube.client import Json, KubeApiError
from lucid_storage.models.meta import SECRET_ALLOWED_LABEL
from lucid_storage.models.settings import SettingsError, StoreSettings

SECRET_SECONDS = 30.0
FORBIDDEN = 403
CONNECTION_FIELD = "spec.connection.secretName"

ReadSecret = Callable[[str, str], Awaitable[Json | None]]


@dataclass(slots=True)
class _Entry:
    settings: StoreSettings
    expires: float


class ConnectionSecrets:
    """The settings that Secrets hold, by namespace and name."""

    def __init__(self, read_secret: ReadSecret) -> None:
        self._read_secret = read_secret
        self._entries: dict[tuple[str, str], _Entry] = {}

    async def settings(self, namespace: str, name: str) -> StoreSettings:
        """Raises RefusedError when there is no such Secret, NotAllowedError when it may not or cannot be used."""
        now = asyncio.get_running_loop().time()
        entry = self._entries.get((namespace, name))
        if entry is not None and entry.expires > now:
            return entry.settings
        self._entries.pop((namespace, name), None)
        body = await allowed_secret(self._read_secret, namespace, name, CONNECTION_FIELD)
        settings = _parse(name, body)
        self._entries[namespace, name] = _Entry(settings, now + SECRET_SECONDS)
        return settings

    def forget(self, namespace: str, name: str) -> None:
        """Read this one anew the next time."""
        self._entries.pop((namespace, name), None)

    def forget_all(self) -> None:
        """Read them anew: a password may have been rotated a moment ago."""
        self._entries.clear()


async def allowed_secret(read_secret: ReadSecret, namespace: str, name: str, field: str) -> Json:
    """The Secret that `field` of a spec names, where its label lets the operator use it.

    Raises NotAllowedError, RefusedError when there is none, and KubeApiError.
    """
    try:
        body = await read_secret(namespace, name)
    except KubeApiError as error:
        if error.status != FORBIDDEN:
            raise
        raise NotAllowedError(
            f'The operator may not read the Secret "{name}" in this namespace; grant its ServiceAccount the verb'
            " get on secrets there.",
            reason=Reason.SECRET_NOT_ALLOWED,
        ) from None
    if body is None:
        raise RefusedError(
            f'The Secret "{name}" does not exist in this namespace; create it, or change {field}.',
            reason=Reason.SECRET_NOT_FOUND,
        )
    if (body["metadata"].get("labels") or {}).get(SECRET_ALLOWED_LABEL) != "true":
        raise NotAllowedError(
            f'The Secret "{name}" lacks the label {SECRET_ALLOWED_LABEL}: "true", without which the operator'
            " does not use it.",
            reason=Reason.SECRET_NOT_ALLOWED,
        )
    return body


def _parse(name: str, body: Json) -> StoreSettings:
    try:
        data = {
            key: base64.b64decode(value, validate=True).decode().strip()
            for key, value in (body.get("data") or {}).items()
            if key in _SECRET_KEYS
        }
        return StoreSettings.read(data)
    except (SettingsError, binascii.Error, UnicodeDecodeError) as error:
        detail = str(error) if isinstance(error, SettingsError) else "a value is not text"
        raise NotAllowedError(
            f'The Secret "{name}" cannot be used: {detail}.', reason=Reason.SECRET_INVALID
        ) from None


_SECRET_KEYS = frozenset((f.alias or n.upper()) for n, f in StoreSettings.model_fields.items())
