"""Who may do what, decided by a real API server: tokens, RBAC, API keys, and its loss."""

import asyncio
import base64
import hashlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rest_clients import serving
from rest_doubles import FixedBackend

from lucid_storage.kube.authz import AccessReviews, Identity, Permission
from lucid_storage.kube.client import Kube, load_configuration
from lucid_storage.restapi.auth import ApiKeySecret, Auth
from lucid_storage.restapi.backend import StoreAccess
from testbed.cluster import kubeconfig
from testbed.cluster.controlplane import ControlPlane

pytestmark = pytest.mark.apiserver

OWN = "storage.lucid-blockchain.org"
PATHS = {
    ("databases", "get"): "/database/health",
    ("collections", "list"): "/database/collections",
    ("collections", "get"): "/database/collections/blocks",
    ("indexes", "list"): "/database/collections/blocks/indexes",
}


class EveryNamespace(FixedBackend):
    async def store_access(self, namespace: str) -> StoreAccess:
        return StoreAccess(namespace, ("lucid*",), "lucid_blockchain")


@dataclass(frozen=True)
class Cluster:
    """The API server with the operator's ServiceAccount in a namespace of this test's own."""

    plane: ControlPlane
    kube: Kube
    namespace: str
    folder: Path

    async def create(self, path: str, kind: str, name: str, **rest: Any) -> None:
        version = path.removeprefix("/apis/").removeprefix("/api/").rsplit("/namespaces/", 1)[0]
        version = version if "namespaces" in path else version.rsplit("/", 1)[0]
        body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **rest}
        await self.kube.request("POST", path, body=body)

    async def account(self, name: str) -> str:
        """A ServiceAccount; returns a token of it."""
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts"
        await self.create(path, "ServiceAccount", name)
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        answer = await self.kube.request("POST", f"{path}/{name}/token", body=asked)
        return str(answer["status"]["token"])

    async def permit(self, account: str, resource: str, verb: str) -> None:
        base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self.namespace}"
        name = f"{account}-{verb}-{resource}"
        rules = [{"apiGroups": [OWN], "resources": [resource], "verbs": [verb]}]
        await self.create(f"{base}/roles", "Role", name, rules=rules)
        await self._bind(f"{base}/rolebindings", "RoleBinding", name, "Role", name, account)
        await self._until_allowed(account, Permission(self.namespace, resource, verb))

    async def delegate(self, account: str) -> None:
        """What the operator needs to ask about callers."""
        path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
        name = f"{self.namespace}-{account}"
        await self._bind(path, "ClusterRoleBinding", name, "ClusterRole", "system:auth-delegator", account)
        await self._until_allowed(account, Permission("", "tokenreviews", "create", "authentication.k8s.io"))

    async def may_read_secrets(self, account: str) -> None:
        base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self.namespace}"
        rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]
        await self.create(f"{base}/roles", "Role", "secrets", rules=rules)
        await self._bind(f"{base}/rolebindings", "RoleBinding", "secrets", "Role", "secrets", account)
        await self._until_allowed(account, Permission(self.namespace, "secrets", "get", ""))

    def auth_as(self, token: str, api_keys: str | None = None) -> Auth:
        """The REST API's view with the operator's own token."""
        config = kubeconfig.write(
            self.folder / f"{uuid.uuid4().hex}.yaml",
            server=self.plane.server,
            authority=self.plane.pki.authority,
            token=token,
        )

        async def connect() -> AccessReviews:
            return AccessReviews(Kube(await load_configuration(str(config)), pool_size=4))

        return Auth(connect, api_keys=(api_keys and ApiKeySecret(self.namespace, api_keys)) or None)

    async def _until_allowed(self, account: str, permission: Permission) -> None:
        """The API server learns of a binding a moment after it was written."""
        who = Identity(f"system:serviceaccount:{self.namespace}:{account}")
        async with asyncio.timeout(20):
            while not await AccessReviews(self.kube).allows(who, permission):  # noqa: ASYNC110 (it tells nobody)
                await asyncio.sleep(0.05)

    async def _bind(self, path: str, kind: str, name: str, role_kind: str, role: str, account: str) -> None:
        await self.create(
            path,
            kind,
            name,
            roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role},
            subjects=[{"kind": "ServiceAccount", "name": account, "namespace": self.namespace}],
        )


async def _cluster(plane: ControlPlane, folder: Path) -> AsyncIterator[Cluster]:
    kube = Kube(await load_configuration(str(plane.kubeconfig)))
    namespace = f"rest-{uuid.uuid4().hex[:10]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    await kube.request("POST", "/api/v1/namespaces", body=body)
    try:
        yield Cluster(plane, kube, namespace, folder)
    finally:
        await kube.close()


@pytest.fixture
async def cluster(control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Cluster]:
    async for found in _cluster(control_plane, tmp_path):
        yield found


@pytest.fixture
async def private_cluster(private_control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Cluster]:
    async for found in _cluster(private_control_plane, tmp_path):
        yield found


async def _operator(cluster: Cluster) -> str:
    token = await cluster.account("operator")
    await cluster.delegate("operator")
    return token


async def test_each_operation_needs_exactly_its_own_permission(cluster: Cluster) -> None:
    operator = await _operator(cluster)
    tokens = {}
    for number, (resource, verb) in enumerate(PATHS):
        tokens[resource, verb] = await cluster.account(f"caller{number}")
        await cluster.permit(f"caller{number}", resource, verb)
    with serving(EveryNamespace(), auth=cluster.auth_as(operator), namespace=cluster.namespace) as rest:
        table = {
            (held, wanted): (await rest.call(path, token)).status
            for held, token in tokens.items()
            for wanted, path in PATHS.items()
        }
        other = await rest.call("/database/health?namespace=default", tokens["databases", "get"])
    assert table == {(held, wanted): 200 if held == wanted else 403 for held in PATHS for wanted in PATHS}
    assert other.status == 403
    assert "namespace default" in other.message


async def test_unknown_expired_and_malformed_tokens_are_refused(cluster: Cluster) -> None:
    operator = await _operator(cluster)
    gone = await cluster.account("gone")
    await cluster.kube.request("DELETE", f"/api/v1/namespaces/{cluster.namespace}/serviceaccounts/gone")
    with serving(EveryNamespace(), auth=cluster.auth_as(operator), namespace=cluster.namespace) as rest:
        for token in ("nobody", gone, gone[:-4] + "AAAA", None):
            assert (await rest.call("/database/health", token)).status == 401


async def test_cluster_role_of_the_administrator_covers_all(cluster: Cluster) -> None:
    operator = await _operator(cluster)
    admin = cluster.plane.pki.token("admin")
    with serving(EveryNamespace(), auth=cluster.auth_as(operator), namespace=cluster.namespace) as rest:
        assert {(await rest.call(path, admin)).status for path in PATHS.values()} == {200}


async def test_api_key_has_the_rights_of_its_service_account_and_no_more(cluster: Cluster) -> None:
    operator = await _operator(cluster)
    await cluster.may_read_secrets("operator")
    await cluster.account("reporter")
    await cluster.permit("reporter", "databases", "get")
    key = "0123456789abcdef0123456789abcdef"
    entry = f"sha256:{hashlib.sha256(key.encode()).hexdigest()} {cluster.namespace}/reporter\n"
    secret = {"reporting": entry, "broken": "sha256:12 nowhere"}
    await cluster.create(
        f"/api/v1/namespaces/{cluster.namespace}/secrets",
        "Secret",
        "rest-api-keys",
        data={name: base64.b64encode(value.encode()).decode() for name, value in secret.items()},
    )
    auth = cluster.auth_as(operator, "rest-api-keys")
    with serving(EveryNamespace(), auth=auth, namespace=cluster.namespace) as rest:
        statuses = {
            wanted: (await rest.call(path, None, headers={"X-API-Key": key})).status
            for wanted, path in PATHS.items()
        }
        wrong = await rest.call("/database/health", None, headers={"X-API-Key": key[:-1] + "0"})
    assert statuses == {wanted: 200 if wanted == ("databases", "get") else 403 for wanted in PATHS}
    assert wrong.status == 401


async def test_operator_without_the_right_to_ask_says_which_one_it_lacks(cluster: Cluster) -> None:
    operator = await cluster.account("operator")
    caller = await cluster.account("caller")
    with serving(EveryNamespace(), auth=cluster.auth_as(operator), namespace=cluster.namespace) as rest:
        reply = await rest.call("/database/health", caller)
    assert reply.status == 503
    assert "system:auth-delegator" in reply.message


async def test_hanging_api_server_is_503_in_time_and_known_callers_go_on(private_cluster: Cluster) -> None:
    cluster = private_cluster
    operator = await _operator(cluster)
    known, unknown = await cluster.account("known"), await cluster.account("unknown")
    await cluster.permit("known", "databases", "get")
    with serving(EveryNamespace(), auth=cluster.auth_as(operator), namespace=cluster.namespace) as rest:
        assert (await rest.call("/database/health", known)).status == 200
        cluster.plane.apiserver.freeze()
        try:
            refused = await rest.call("/database/health", unknown)
            served = await rest.call("/database/health", known)
        finally:
            cluster.plane.apiserver.thaw()
    assert refused.status == 503
    assert "again later" in refused.message
    assert served.status == 200
