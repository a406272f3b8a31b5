"""The Kubernetes API, narrowed to what the operator needs: plain JSON in, plain JSON out.

Requests go through the official client's asyncio transport (its authentication, TLS and token rotation), without
its generated classes: a resource is a dict, and decoding thousands of them stays cheap.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, cast
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio import client, config

from lucid_storage.kube.paths import segment
from lucid_storage.models.meta import GROUP, VERSION

Json = dict[str, Any]
"""A Kubernetes object or a part of one, as the API server sends it."""

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
REQUEST_SECONDS = 20.0


class KubeApiError(Exception):
    """The API server refused or did not answer. `status` is the HTTP status, 0 when there was no answer."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}" if status else message)
        self.status = status
        self.reason = reason
        self.message = message


async def load_configuration(
    kubeconfig: str | None = None, context: str | None = None
) -> client.Configuration:
    """In-cluster credentials where there are any, else the kubeconfig of the environment."""
    configuration = client.Configuration()
    if kubeconfig is None:
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            pass
        else:
            return configuration
    await config.load_kube_config(
        config_file=kubeconfig, context=context, client_configuration=configuration, persist_config=False
    )
    return configuration


def resource_path(
    plural: str, namespace: str | None = None, name: str | None = None, sub: str | None = None
) -> str:
    """Path of one of our own resources, or of a list of them."""
    parts = [f"/apis/{GROUP}/{VERSION}"]
    if namespace is not None:
        parts.append(f"namespaces/{segment(namespace)}")
    parts.append(plural)
    if name is not None:
        parts.append(segment(name))
    if sub is not None:
        parts.append(sub)
    return "/".join(parts)


class Kube:
    """One connection pool to the API server.

    `guard` is called right before each request that changes something; it raises LeadershipLostError when this
    process may not act.
    """

    def __init__(
        self,
        configuration: client.Configuration,
        *,
        guard: Callable[[], None] | None = None,
        pool_size: int = 12,
    ) -> None:
        configuration.connection_pool_maxsize = pool_size
        configuration.retries = None
        if configuration.proxy is None:
            configuration.proxy = _environment_proxy(configuration.host)
        # Otherwise the transport reads ~/.netrc and the proxy variables anew for each request, in two threads,
        # and refuses to work where .netrc has a login for the API server's host.
        configuration.client_session_kwargs = {"trust_env": False}
        self._api = client.ApiClient(configuration)
        self._guard = guard or (lambda: None)

    async def close(self) -> None:
        await self._api.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        guarded: bool = True,
        seconds: float = REQUEST_SECONDS,
    ) -> Json:
        """One request. Raises KubeApiError, with status 0 when the API server cannot be reached in `seconds`."""
        return _decode(
            await self._raw(method, path, query, body, content_type, accept, guarded=guarded, seconds=seconds)
        )

    async def text(self, path: str, *, query: Mapping[str, str], seconds: float = REQUEST_SECONDS) -> str:
        """What is no JSON, such as a pod's log. Raises KubeApiError as `request` does."""
        raw = await self._raw("GET", path, query, None, "", "*/*", guarded=False, seconds=seconds)
        return raw.decode(errors="replace")

    async def _raw(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: object,
        content_type: str,
        accept: str,
        *,
        guarded: bool,
        seconds: float,
    ) -> bytes:
        full_path = f"{path}?{urlencode(query)}" if query else path
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = content_type
        serialized = await self._api.param_serialize(
            method, full_path, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        if guarded and method != "GET":
            self._guard()
        try:
            response = await self._api.call_api(*serialized, _request_timeout=seconds)
            raw: bytes = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = str(error) or "no answer in time"
            raise KubeApiError(0, "Unreachable", f"the API server cannot be reached: {why}") from error
        if response.status >= 400:
            document = _decode(raw)
            raise KubeApiError(
                response.status,
                str(document.get("reason", response.reason)),
                str(document.get("message", "")),
            )
        return raw

    async def get(self, path: str, *, seconds: float = REQUEST_SECONDS) -> Json | None:
        """An object, or None when there is none."""
        try:
            return await self.request("GET", path, seconds=seconds)
        except KubeApiError as error:
            if error.status == 404:
                return None
            raise

    async def patch(self, path: str, patch: object, content_type: str = MERGE_PATCH) -> Json | None:
        """Patch an object; None when it is gone."""
        try:
            return await self.request("PATCH", path, body=patch, content_type=content_type)
        except KubeApiError as error:
            if error.status == 404:
                return None
            raise

    async def pages(
        self, path: str, *, accept: str = "application/json", page: int = 500
    ) -> AsyncIterator[list[Json]]:
        """A list in pages of bounded size. Raises KubeApiError 410 when it expires half-way: begin anew."""
        query = {"limit": str(page)}
        while True:
            found = await self.request("GET", path, query=query, accept=accept)
            yield found.get("items") or []
            following = (found.get("metadata") or {}).get("continue")
            if not following:
                return
            query["continue"] = following

    async def secret(self, namespace: str, name: str) -> Json | None:
        """A Secret, or None. Secrets are read when needed and neither listed nor watched."""
        return await self.get(f"/api/v1/namespaces/{segment(namespace)}/secrets/{segment(name)}")

    async def namespace_terminating(self, namespace: str) -> bool:
        """Whether the namespace is being deleted (or is gone already)."""
        found = await self.get(f"/api/v1/namespaces/{segment(namespace)}")
        return found is None or found.get("status", {}).get("phase") == "Terminating"


def _environment_proxy(url: str) -> str | None:
    """The proxy that HTTPS_PROXY and its like name for this address, where NO_PROXY does not except it."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


def _decode(raw: bytes) -> Json:
    try:
        return cast("Json", json.loads(raw)) if raw else {}
    except ValueError:
        return {"message": raw[:200].decode(errors="replace")}
