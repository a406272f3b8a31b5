"""The logins and keys that a worker may be given: those of its namespace's labelled Secrets, or the operator's own."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from lucid_storage.errors import NotAllowedError
from lucid_storage.kinds.secrets import CONNECTION_FIELD, ReadSecret, allowed_secret
from lucid_storage.kinds.workers.job import CA_FILE, STORES_CA
from lucid_storage.kinds.workers.place import Place
from lucid_storage.models.meta import SECRET_ALLOWED_LABEL
from lucid_storage.models.settings import Settings

S3_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
VERIFY_VARIABLE = "BACKUP_VERIFY_URI"
KEY_PREFIX = "key."
"""Before a key's id in the Secret of one run, where other entries lie too."""


class Credentials:
    """Of one operator."""

    def __init__(self, read_secret: ReadSecret, settings: Settings) -> None:
        self._read_secret = read_secret
        self._settings = settings

    async def check(self, namespace: str, connection: str | None) -> None:
        """No worker gets logins that its owner's namespace may not use. Every worker passes here.

        Raises NotAllowedError, RefusedError and KubeApiError.
        """
        if connection is not None:
            await self.entries(namespace, connection, CONNECTION_FIELD)
        elif self._settings.served(namespace) is None:
            raise NotAllowedError(
                f'The operator\'s own credentials do not serve the namespace "{namespace}": name a Secret with the'
                f' label {SECRET_ALLOWED_LABEL}: "true" in spec.connection.secretName.'
            )

    async def of_run(self, namespace: str, place: Place, keys_secret: str | None) -> dict[str, str]:
        """Everything that one run needs, base64: the stores' addresses, the bucket's keys, the encryption keys."""
        settings = self._settings
        plain = {
            "MONGODB_URI": settings.mongodb(),
            "REDIS_URL": settings.redis(),
            "ELASTICSEARCH_URL": settings.elasticsearch(),
            VERIFY_VARIABLE: _revealed(settings.backup_verify_uri),
            STORES_CA: settings.stores_ca,
        }
        if place.secret is None and place.destination.bucket is not None:
            plain |= {
                "AWS_ACCESS_KEY_ID": _revealed(settings.aws_access_key_id),
                "AWS_SECRET_ACCESS_KEY": _revealed(settings.aws_secret_access_key),
                CA_FILE: settings.backup_s3_ca,
            }
        data = {name: base64.b64encode(text.encode()).decode() for name, text in plain.items() if text}
        if place.secret is not None:
            held = await self.entries(namespace, place.secret, "spec.storage.s3.secretName")
            data |= {name: held[name] for name in (*S3_VARIABLES, CA_FILE) if name in held}
        if keys_secret is not None:
            held = await self.entries(namespace, keys_secret, "spec.encryption.secretName")
            data |= {f"{KEY_PREFIX}{name}": value for name, value in held.items()}
        return data

    async def entries(self, namespace: str, name: str, field: str) -> Mapping[str, str]:
        """The entries of a labelled Secret, base64. Raises NotAllowedError, RefusedError and KubeApiError."""
        body = await allowed_secret(self._read_secret, namespace, name, field)
        return body.get("data") or {}


def _revealed(secret: object) -> str | None:
    reveal = getattr(secret, "get_secret_value", None)
    return str(reveal()) if reveal is not None else None
