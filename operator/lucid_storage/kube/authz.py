"""Who a caller is and what they may do, asked from the API server: RBAC is the one policy."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import re
from dataclasses import dataclass, field

from lucid_storage.kube.client import Json, Kube
from lucid_storage.models.meta import GROUP

log = logging.getLogger(__name__)

_KEY_ENTRY = re.compile(
    r"sha256:(?P<hash>[0-9a-f]{64})\s+"
    r"(?P<namespace>[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)/(?P<account>[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?)"
)
API_KEY_BYTES = 512
"""Longest API key that is looked at."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller as the API server knows them."""

    user: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Permission:
    """What a caller wants to do. `group` is our own unless said otherwise."""

    namespace: str
    resource: str
    verb: str
    group: str = field(default=GROUP)


@dataclass(frozen=True, slots=True)
class ApiKeyEntry:
    """One API key of the Secret: its hash and the ServiceAccount that it stands for."""

    digest: str
    namespace: str
    account: str

    def identity(self) -> Identity:
        """As the API server itself describes a token of that ServiceAccount."""
        return Identity(
            user=f"system:serviceaccount:{self.namespace}:{self.account}",
            groups=(
                "system:serviceaccounts",
                f"system:serviceaccounts:{self.namespace}",
                "system:authenticated",
            ),
        )


class AccessReviews:
    """TokenReview and SubjectAccessReview over a connection of its own. Raises KubeApiError."""

    def __init__(self, kube: Kube, *, seconds: float = 5.0) -> None:
        self._kube = kube
        self._seconds = seconds

    async def identify(self, token: str) -> Identity | None:
        """Whose token it is; None when the API server does not accept it."""
        status = await self._review("authentication.k8s.io", "tokenreviews", "TokenReview", {"token": token})
        user = status.get("user") or {}
        if not status.get("authenticated") or not user.get("username"):
            return None
        extra = user.get("extra") or {}
        return Identity(
            user=user["username"],
            groups=tuple(user.get("groups") or ()),
            uid=user.get("uid", ""),
            extra=tuple(sorted((key, tuple(values)) for key, values in extra.items())),
        )

    async def allows(self, identity: Identity, permission: Permission) -> bool:
        """Whether RBAC (or whatever authorizes in this cluster) lets them."""
        spec: Json = {
            "user": identity.user,
            "groups": list(identity.groups),
            "resourceAttributes": {
                "namespace": permission.namespace,
                "group": permission.group,
                "resource": permission.resource,
                "verb": permission.verb,
            },
        }
        if identity.uid:
            spec["uid"] = identity.uid
        if identity.extra:
            spec["extra"] = {key: list(values) for key, values in identity.extra}
        status = await self._review(
            "authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview", spec
        )
        return bool(status.get("allowed")) and not status.get("denied")

    async def api_keys(self, namespace: str, secret: str) -> tuple[ApiKeyEntry, ...]:
        """The usable entries of the Secret; none when it does not exist. A bad entry is named in the log."""
        found = await self._kube.secret(namespace, secret)
        return () if found is None else parse_api_keys(found)

    async def close(self) -> None:
        await self._kube.close()

    async def _review(self, group: str, plural: str, kind: str, spec: Json) -> Json:
        body = {"apiVersion": f"{group}/v1", "kind": kind, "spec": spec}
        # A review changes nothing, so a replica that does not lead may ask for one too.
        answer = await self._kube.request(
            "POST", f"/apis/{group}/v1/{plural}", body=body, guarded=False, seconds=self._seconds
        )
        status = answer.get("status")
        return status if isinstance(status, dict) else {}


def parse_api_keys(secret: Json) -> tuple[ApiKeyEntry, ...]:
    """Each value of the Secret is `sha256:<hex of the key's SHA-256> <namespace>/<serviceaccount>`."""
    entries = []
    for name, encoded in sorted((secret.get("data") or {}).items()):
        try:
            text = base64.b64decode(encoded, validate=True).decode("ascii").strip()
        except (binascii.Error, UnicodeDecodeError):
            text = ""
        match = _KEY_ENTRY.fullmatch(text)
        if match is None:
            log.warning(
                "entry %s of the API key Secret is not used: "
                "write it as sha256:<hex> <namespace>/<serviceaccount>",
                name,
            )
            continue
        entries.append(ApiKeyEntry(match["hash"], match["namespace"], match["account"]))
    return tuple(entries)


def find_api_key(entries: tuple[ApiKeyEntry, ...], key: bytes) -> ApiKeyEntry | None:
    """The entry of a presented key. Takes the same time whichever entry it is, and whether there is one."""
    digest = hashlib.sha256(key).hexdigest()
    found = None
    for entry in entries:
        if hmac.compare_digest(entry.digest, digest):
            found = entry
    return found
