"""What kubelets tell of the volumes on their nodes, asked directly.

A kubelet gets a short-lived token of a ServiceAccount that may do `nodes/stats` and nothing else, never the operator's
own: whoever holds a node could use what is sent to it. It is sent only after the certificate was checked. Source:
https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/
"""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp

from lucid_storage.kube.claims import Node
from lucid_storage.kube.client import Kube
from lucid_storage.kube.paths import segment

SUMMARY_LIMIT = 32 * 1024**2
"""Bytes of one answer: a full node's summary has a few hundred KiB."""
TOKEN_SECONDS = 3600
RENEW_SECONDS = 2400
CERTIFICATE = "-----BEGIN"


class KubeletError(Exception):
    """A kubelet did not answer, or refused. The message is a sentence and holds no secret."""


@dataclass(frozen=True, slots=True)
class ClaimFigures:
    """The use of one claim, in bytes, as a kubelet counted it."""

    namespace: str
    claim: str
    at: datetime
    used: int
    available: int
    capacity: int
    inodes_used: int | None
    inodes: int | None


class StatsTokens:
    """Tokens of the ServiceAccount for kubelets, renewed before they end."""

    def __init__(self, kube: Kube, namespace: str, account: str) -> None:
        self._kube = kube
        self._path = f"/api/v1/namespaces/{segment(namespace)}/serviceaccounts/{segment(account)}/token"
        self._known: tuple[float, str] | None = None

    async def get(self) -> str:
        """Raises KubeApiError."""
        if self._known is None or monotonic() - self._known[0] > RENEW_SECONDS:
            body = {"spec": {"expirationSeconds": TOKEN_SECONDS}}
            # It changes nothing, so it needs no lease: readings go on while another replica takes over.
            made = await self._kube.request("POST", self._path, body=body, guarded=False)
            self._known = (monotonic(), str(made["status"]["token"]))
        return self._known[1]

    def forget(self) -> None:
        """It was refused: the next one is new."""
        self._known = None


def trust(authority: str) -> ssl.SSLContext:
    """Trust in a certificate authority that is given as PEM text or as a path. Raises OSError and ssl.SSLError."""
    text = authority if authority.lstrip().startswith(CERTIFICATE) else Path(authority).read_text()
    context = ssl.create_default_context(cadata=text)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Kubelets:
    """Asks kubelets. A session a call: rounds are rare, and a connection kept to each node would not be."""

    def __init__(self, tokens: StatsTokens, authority: str, *, seconds: float = 5.0) -> None:
        self._tokens = tokens
        self._authority = authority
        self._seconds = seconds

    async def figures(self, node: Node) -> list[ClaimFigures]:
        """Of all claims that are mounted there. Raises KubeletError and KubeApiError."""
        if node.address is None:
            raise KubeletError(f"The node {node.name} tells no address.")
        try:
            context = trust(self._authority)
        except (OSError, ssl.SSLError) as error:
            raise KubeletError(f"KUBELET_CA cannot be used: {error}") from None
        token = await self._tokens.get()
        # Certificates name the address on some distributions and the node on others; either proves the node.
        try:
            raw = await self._get(node, context, token, node.address)
        except aiohttp.ClientConnectorCertificateError:
            try:
                raw = await self._get(node, context, token, node.name)
            except aiohttp.ClientConnectorCertificateError as error:
                raise KubeletError(
                    f"The certificate of the kubelet on {node.name} is not signed by KUBELET_CA or names another host:"
                    f" {error.certificate_error}"
                ) from None
        return figures_in(raw)

    async def _get(self, node: Node, context: ssl.SSLContext, token: str, host: str) -> bytes:
        address = f"[{node.address}]" if ":" in str(node.address) else node.address
        url = f"https://{address}:{node.port}/stats/summary"
        timeout = aiohttp.ClientTimeout(total=self._seconds)
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
                session.get(
                    url, headers=headers, ssl=context, server_hostname=host, allow_redirects=False
                ) as answer,
            ):
                if answer.status in (401, 403):
                    self._tokens.forget()
                    raise KubeletError(
                        f"The kubelet on {node.name} refuses its statistics ({answer.status}); let the ServiceAccount"
                        " of KUBELET_SERVICE_ACCOUNT get nodes/stats."
                    )
                if answer.status != 200:
                    raise KubeletError(f"The kubelet on {node.name} answers {answer.status}.")
                return await _bounded(answer)
        except aiohttp.ClientConnectorCertificateError:
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = str(error) or "no answer in time"
            raise KubeletError(f"The kubelet on {node.name} cannot be reached: {why}") from None


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in answer.content.iter_chunked(256 * 1024):
        size += len(chunk)
        if size > SUMMARY_LIMIT:
            raise KubeletError("A kubelet's statistics are larger than 32 MiB.")
        parts.append(chunk)
    return b"".join(parts)


def figures_in(raw: bytes) -> list[ClaimFigures]:
    """The claims in a summary (k8s.io/kubelet/pkg/apis/stats/v1alpha1). Raises KubeletError for what is none."""
    try:
        summary = json.loads(raw)
        volumes = [volume for pod in summary.get("pods") or [] for volume in pod.get("volume") or []]
        return [found for volume in volumes if (found := _figures(volume)) is not None]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise KubeletError(f"A kubelet's statistics cannot be read: {error}") from None


def _figures(volume: dict[str, Any]) -> ClaimFigures | None:
    claim = volume.get("pvcRef")
    numbers = [volume.get(k) for k in ("usedBytes", "availableBytes", "capacityBytes")]
    if not claim or any(n is None for n in numbers):
        return None
    used, available, capacity = (int(n or 0) for n in numbers)
    inodes = volume.get("inodes")
    return ClaimFigures(
        namespace=claim["namespace"],
        claim=claim["name"],
        at=datetime.fromisoformat(volume["time"]) if volume.get("time") else datetime.now(UTC),
        used=used,
        available=available,
        capacity=capacity,
        inodes_used=int(volume["inodesUsed"]) if volume.get("inodesUsed") is not None else None,
        inodes=int(inodes) if inodes else None,
    )
