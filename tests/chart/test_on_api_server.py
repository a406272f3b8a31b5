"""The chart on a real API server: valid objects, least rights, restricted pods, upgrade and uninstall."""

import shutil
from functools import partial
from pathlib import Path

import pytest
import yaml
from chart_release import CHART, Apply, Helm, may, of_kind, the, until

from lucid_storage.kube.client import Json, Kube, KubeApiError, load_configuration
from lucid_storage.models.meta import GROUP
from testbed.cluster.controlplane import ControlPlane
from testbed.paths import project_root

pytestmark = pytest.mark.apiserver

Names = tuple[str, str, str]
"""The release's namespace, and two more."""

PEER = {"namespaceSelector": {"matchLabels": {"team": "data"}}}
COMBINATIONS: list[Json] = [
    {},
    {"stores.mongodb.uri": "mongodb://db/", "stores.redis.host": "r", "stores.redis.port": 6380},
    {"stores.existingSecret": "mine", "rest.enabled": False, "replicas": 0},
    {"replicas": 2, "podDisruptionBudget.enabled": True, "serviceAccount.annotations": {"a": "b"}},
    {
        "networkPolicy.enabled": True,
        "networkPolicy.restFrom": [PEER],
        "networkPolicy.metricsFrom": [PEER],
        "networkPolicy.egress": [{"to": [PEER]}],
    },
    {"networkPolicy.enabled": True, "rest.enabled": False},
    {"monitoring.dashboard.enabled": True, "fullnameOverride": "other-name"},
    {
        "image": {
            "repository": "registry.example/lucid-storage",
            "tag": "x",
            "pullSecrets": [{"name": "pull"}],
        },
        "rest.service": {"type": "NodePort", "port": 80, "annotations": {"a": "b"}},
        "rest.port": 9001,
        "health.port": 9002,
        "servedNamespaces": {"*": {"databases": ["lucid_*"]}},
        "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "podAnnotations": {"a": "b"},
        "podLabels": {"a": "b", "app.kubernetes.io/name": "not-this"},
        "extraEnv": [{"name": "A", "value": "b"}],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
    },
]


@pytest.mark.parametrize("values", COMBINATIONS)
def test_every_object_is_valid(helm: Helm, apply: Apply, namespaces: Names, values: Json) -> None:
    own, a, b = namespaces
    for watched in ([], [a, b]):
        rendered = helm.objects({**values, "watchNamespaces": watched, "crds.install": False}, namespace=own)
        assert len(apply(rendered, dry_run=True).splitlines()) == len(rendered)


def test_the_install_manifest_is_valid(apply: Apply) -> None:
    objects = list(yaml.safe_load_all((project_root() / "manifests/install.yaml").read_text()))
    namespace, *rest = objects
    apply([namespace])
    assert len(apply(rest, dry_run=True).splitlines()) == len(rest)


async def test_pods_pass_the_restricted_profile(
    helm: Helm, apply: Apply, kube: Kube, namespaces: Names
) -> None:
    own = namespaces[0]
    rendered = helm.objects({"stores.redis.host": "r"}, namespace=own)
    apply(of_kind(rendered, "ServiceAccount"))
    template = the(rendered, "Deployment")["spec"]["template"]
    await _create_pod(kube, own, template["spec"])
    template["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(KubeApiError, match='violates PodSecurity "restricted'):
        await _create_pod(kube, own, template["spec"])


async def _create_pod(kube: Kube, namespace: str, spec: Json) -> None:
    body = {"metadata": {"generateName": "trial-"}, "spec": spec}
    await kube.request("POST", f"/api/v1/namespaces/{namespace}/pods", query={"dryRun": "All"}, body=body)


def _apply_rights(helm: Helm, apply: Apply, own: str, values: Json) -> str:
    """Creates the roles for real and says who has them."""
    rendered = helm.objects({**values, "rbac.aggregate": False}, namespace=own)
    kinds = {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
    apply([found for found in rendered if found["kind"] in kinds])
    account = the(rendered, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"]
    return f"system:serviceaccount:{own}:{account}"


LEASE = "lucid-storage-operator"
WATCHED = [
    *[(GROUP, "collections", verb) for verb in ("get", "list", "watch", "patch")],
    (GROUP, "volumes", "watch"),
    (GROUP, "indexes/status", "patch"),
    ("", "secrets", "get"),
    ("", "namespaces", "get"),
    ("events.k8s.io", "events", "create"),
    ("", "events", "list"),
    *[("", "persistentvolumeclaims", verb) for verb in ("get", "list", "watch", "create", "patch", "delete")],
]
WORKERS = [
    *[("batch", "jobs", verb) for verb in ("get", "list", "create", "patch", "delete")],
    *[("apps", "deployments", verb) for verb in ("get", "create", "patch", "delete")],
    ("", "pods", "list"),
    ("", "pods/log", "get"),
    ("", "persistentvolumeclaims", "get"),
]
"""Where workers of backups run."""
RUN_SECRETS = [("", "secrets", verb) for verb in ("create", "patch", "delete")]
"""In the operator's own namespace: what one run needs of its credentials."""
NEVER = [
    *[("", "secrets", verb) for verb in ("list", "watch", "update", "deletecollection")],
    *[(GROUP, "collections", verb) for verb in ("create", "update", "delete", "deletecollection")],
    (GROUP, "collections/status", "update"),
    *[("", "namespaces", verb) for verb in ("list", "watch", "patch", "delete")],
    *[("", "pods", verb) for verb in ("create", "patch", "delete")],
    *[(resource[0], resource[1], "create") for resource in (("", "pods/exec"), ("", "events"))],
    ("", "configmaps", "get"),
    *[("", "persistentvolumeclaims", verb) for verb in ("update", "deletecollection")],
    ("", "serviceaccounts/token", "create"),
    ("coordination.k8s.io", "leases", "list"),
    ("coordination.k8s.io", "leases", "delete"),
]
STORAGE = [
    *[("", "persistentvolumes", verb) for verb in ("get", "list", "patch")],
    ("", "nodes", "list"),
    ("storage.k8s.io", "storageclasses", "list"),
    ("storage.k8s.io", "volumeattachments", "list"),
    ("snapshot.storage.k8s.io", "volumesnapshotclasses", "list"),
]
"""Of the cluster: what Volumes stand on."""
NEVER_ON_CLUSTER = [
    *[("", "persistentvolumes", verb) for verb in ("create", "update", "delete")],
    ("", "nodes/stats", "get"),
    ("apiextensions.k8s.io", "customresourcedefinitions", "get"),
    ("apiextensions.k8s.io", "customresourcedefinitions", "patch"),
    ("rbac.authorization.k8s.io", "clusterroles", "escalate"),
    ("rbac.authorization.k8s.io", "clusterrolebindings", "create"),
    ("", "users", "impersonate"),
    ("", "nodes", "get"),
    ("", "nodes/proxy", "get"),
]
REVIEWS = [
    ("authentication.k8s.io", "tokenreviews", "create"),
    ("authorization.k8s.io", "subjectaccessreviews", "create"),
]
Rights = list[tuple[str, str, str]]


async def _allowed(kube: Kube, account: str, rights: Rights, namespace: str) -> Rights:
    return [
        (group, resource, verb)
        for group, resource, verb in rights
        if await may(kube, account, verb, resource, group=group, namespace=namespace)
    ]


async def _granted(kube: Kube, account: str, rights: Rights, namespace: str) -> None:
    """Wait until each of them counts: the API server hears of roles and bindings of each kind on a watch of its own."""
    for group, resource, verb in rights:
        asked = partial(may, kube, account, verb, resource, group=group, namespace=namespace)
        await until(asked, 10, f"the right to {verb} {resource} in {namespace or 'the cluster'}")


async def test_the_operator_may_do_its_work_in_all_namespaces_and_nothing_else(
    helm: Helm, apply: Apply, kube: Kube, namespaces: Names
) -> None:
    own, other, _ = namespaces
    account = _apply_rights(helm, apply, own, {})
    await _granted(kube, account, [*WATCHED, *WORKERS], other)
    await _granted(kube, account, RUN_SECRETS, own)
    await _granted(kube, account, REVIEWS, "")
    assert await _allowed(kube, account, NEVER, own) == []
    assert await _allowed(kube, account, [*NEVER, *RUN_SECRETS], other) == []
    assert await _allowed(kube, account, NEVER_ON_CLUSTER, "") == []


async def test_the_operator_may_hold_its_own_lease_only(
    helm: Helm, apply: Apply, kube: Kube, namespaces: Names
) -> None:
    own, other, _ = namespaces
    account = _apply_rights(helm, apply, own, {})

    async def lease(verb: str, name: str, namespace: str = own) -> bool:
        return await may(
            kube, account, verb, "leases", group="coordination.k8s.io", namespace=namespace, name=name
        )

    await until(lambda: lease("create", ""), 10, "the roles to count")
    assert await lease("get", LEASE)
    assert await lease("update", LEASE)
    assert not await lease("update", "another")
    assert not await lease("update", LEASE, other)
    assert not await lease("create", "", other)


async def test_in_namespaced_mode_rights_end_at_the_watched_namespaces(
    helm: Helm, apply: Apply, kube: Kube, namespaces: Names
) -> None:
    own, watched, unwatched = namespaces
    account = _apply_rights(helm, apply, own, {"watchNamespaces": [watched], "rest.enabled": False})
    await _granted(kube, account, [*WATCHED, *WORKERS], watched)
    # The API server counts the name of a namespace as its namespace, so a Role there is enough.
    assert await may(kube, account, "get", "namespaces", namespace=watched, name=watched)
    # Workers with the operator's own credentials run beside it.
    await _granted(kube, account, [*WORKERS, ("", "secrets", "get"), *RUN_SECRETS], own)
    await _granted(kube, account, STORAGE, "")
    system = "kube-system"
    await until(lambda: may(kube, account, "get", "namespaces", namespace=system, name=system), 10, system)
    assert await _allowed(kube, account, [*NEVER, *RUN_SECRETS], watched) == []
    assert await _allowed(kube, account, [*WATCHED, *WORKERS, *RUN_SECRETS], unwatched) == []
    assert await _allowed(kube, account, [(GROUP, "collections", "get")], own) == []
    assert await _allowed(kube, account, [*WATCHED, *WORKERS, *NEVER_ON_CLUSTER, *REVIEWS], "") == []


async def test_the_account_itself_is_let_in_and_kept_out(
    helm: Helm, apply: Apply, kube: Kube, namespaces: Names, chart_api: ControlPlane
) -> None:
    """The rights hold for a token of the account too, not only for a question about it."""
    own, watched, unwatched = namespaces
    account = _apply_rights(helm, apply, own, {"watchNamespaces": [watched]})
    name = account.rpartition(":")[2]
    await until(lambda: may(kube, account, "get", "secrets", namespace=watched), 10, "the roles to count")
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = f"/api/v1/namespaces/{own}/serviceaccounts/{name}/token"
    token = (await kube.request("POST", path, body=request))["status"]["token"]
    client = await _with_token(chart_api, token)
    try:
        assert not await client.namespace_terminating(watched)
        assert await client.secret(watched, "absent") is None
        for forbidden in (f"/api/v1/namespaces/{unwatched}", f"/api/v1/namespaces/{watched}/secrets"):
            with pytest.raises(KubeApiError) as refused:
                await client.get(forbidden)
            assert refused.value.status == 403
    finally:
        await client.close()


async def _with_token(plane: ControlPlane, token: str) -> Kube:
    configuration = await load_configuration(str(plane.kubeconfig))
    configuration.api_key = {"BearerToken": f"Bearer {token}"}
    return Kube(configuration)


async def test_people_get_rights_through_the_built_in_roles(
    helm: Helm, apply: Apply, kube: Kube, namespaces: Names
) -> None:
    own, team, _ = namespaces
    rendered = helm.objects({"rbac.create": False}, namespace=own)
    roles = of_kind(rendered, "ClusterRole")
    bindings = [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": role, "namespace": team},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": f"{role}er"}],
        }
        for role in ("view", "edit")
    ]
    apply([*roles, *bindings])

    async def allowed(user: str, verb: str, resource: str) -> bool:
        return await may(kube, user, verb, resource, group=GROUP, namespace=team)

    await until(lambda: allowed("editer", "delete", "collections"), 20, "the roles to be aggregated")
    await until(lambda: allowed("editer", "list", "collections"), 20, "the roles to be aggregated")
    await until(lambda: allowed("viewer", "list", "backups"), 20, "the roles to be aggregated")
    assert await allowed("viewer", "get", "databases")
    assert not await allowed("viewer", "create", "collections")
    assert not await allowed("viewer", "get", "caches")
    assert not await allowed("viewer", "get", "searches")
    assert await allowed("editer", "get", "caches")
    assert not await allowed("editer", "patch", "collections/status")
    assert not await may(kube, "editer", "list", "collections", group=GROUP, namespace=own)


async def test_an_upgrade_brings_new_crds_and_an_uninstall_keeps_them_with_their_resources(
    helm: Helm, kube: Kube, namespaces: Names, chart_api: ControlPlane, tmp_path: Path
) -> None:
    own = namespaces[0]
    where = [f"--kubeconfig={chart_api.kubeconfig}", f"--namespace={own}"]
    older = tmp_path / "lucid-storage"
    shutil.copytree(CHART, older)
    crd = older / "files/crds/collections.yaml"
    crd.write_text(crd.read_text().replace("- lcol", "- oldname"))
    helm.done("install", "lucid-storage", older, *where)
    assert await _short_names(kube) == ["oldname"]
    helm.done("upgrade", "lucid-storage", CHART, *where, "--set=replicas=2")
    assert await _short_names(kube) == ["lcol"]

    collections = f"/apis/{GROUP}/v1alpha1/namespaces/{own}/collections"
    sample = yaml.safe_load((project_root() / "manifests/samples/collection-minimal.yaml").read_text())
    sample["metadata"] = {"name": "kept"}
    await until(lambda: _created(kube, collections, sample), 20, "the new CRD to be served")
    helm.done("uninstall", "lucid-storage", *where, "--wait")
    assert await kube.get(f"{collections}/kept") is not None
    assert await kube.get(f"/apis/apps/v1/namespaces/{own}/deployments/lucid-storage") is None
    helm.done("install", "lucid-storage", CHART, *where)
    assert await kube.get(f"{collections}/kept") is not None
    helm.done("uninstall", "lucid-storage", *where)


CRD = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/collections.{GROUP}"


async def _short_names(kube: Kube) -> list[str]:
    found = await kube.request("GET", CRD)
    names: list[str] = found["spec"]["names"]["shortNames"]
    return names


async def _created(kube: Kube, path: str, body: Json) -> bool:
    """False while the API server is still taking the CRD up."""
    try:
        await kube.request("POST", path, body=body)
    except KubeApiError as error:
        if error.status in {404, 429}:
            return False
        raise
    return True
