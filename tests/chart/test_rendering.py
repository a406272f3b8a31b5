"""What the chart renders, without a cluster."""

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from chart_release import CHART, Helm, environment, of_kind, the

from lucid_storage.kube.client import Json
from lucid_storage.models.settings import Settings
from testbed.paths import project_root


@pytest.fixture(scope="session")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chart_generate", project_root() / "helm" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names_of_settings() -> set[str]:
    return {field.alias or name.upper() for name, field in Settings.model_fields.items()}


def test_helm_finds_nothing_wrong_with_the_chart(helm: Helm) -> None:
    helm.done("lint", "--strict", CHART)


def test_everything_made_from_the_chart_is_current(generate: ModuleType, helm: Helm) -> None:
    assert generate.differences(project_root(), helm.program) == []


def test_a_file_that_is_not_current_is_named(generate: ModuleType, helm: Helm, tmp_path: Path) -> None:
    for part in ("crds", "helm/lucid-storage", "manifests"):
        subprocess.run(["cp", "-r", "--parents", part, tmp_path], check=True, cwd=project_root())
    generate.write(tmp_path, helm.program)
    install = tmp_path / "manifests/install.yaml"
    install.write_text(install.read_text().replace("replicas: 1", "replicas: 2"))
    assert generate.differences(tmp_path, helm.program) == ["manifests/install.yaml"]
    (tmp_path / "crds/volumes.yaml").unlink()
    assert generate.differences(tmp_path, helm.program) == ["helm/lucid-storage/files/crds/volumes.yaml"]
    generate.write(tmp_path, helm.program)
    assert generate.differences(tmp_path, helm.program) == []


def test_crds_are_rendered_as_generated_and_kept_on_uninstall(helm: Helm) -> None:
    rendered = {crd["metadata"]["name"]: crd for crd in of_kind(helm.objects({}), "CustomResourceDefinition")}
    generated = [yaml.safe_load(path.read_text()) for path in (CHART / "files/crds").glob("*.yaml")]
    assert {name: crd["spec"] for name, crd in rendered.items()} == {
        crd["metadata"]["name"]: crd["spec"] for crd in generated
    }
    kept = [crd["metadata"]["annotations"]["helm.sh/resource-policy"] for crd in rendered.values()]
    assert kept == ["keep"] * 7


def test_crds_can_be_left_out(helm: Helm) -> None:
    assert of_kind(helm.objects({"crds.install": False}), "CustomResourceDefinition") == []


def test_the_operator_reads_every_variable_that_the_chart_sets(helm: Helm) -> None:
    values = {
        "stores.mongodb": {
            "uri": "mongodb://u:p@db-0,db-1/?replicaSet=rs0",
            "host": "db",
            "port": 27018,
            "username": "u",
            "password": "p",
            "replicaSet": "rs0",
            "database": "lucid",
        },
        "stores.redis": {"url": "redis://r/0", "host": "r", "port": 6380, "database": 0, "password": "p"},
        "stores.elasticsearch": {
            "url": "https://e:9200",
            "host": "e",
            "port": 9201,
            "username": "u",
            "password": "p",
            "indexPrefix": "acme",
        },
        "servedNamespaces": {"lucid": {"databases": ["lucid_*"], "bucketPrefix": "lucid"}, "*": {}},
        "watchNamespaces": ["lucid", "other"],
        "settings.sweepSeconds": 86400,
        "settings.balancerWindow": "22:00-06:00",
    }
    told = environment(helm.objects(values))
    of_the_c_library = {"MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_"}
    assert told.keys() - of_the_c_library <= names_of_settings()
    assert told.keys() >= of_the_c_library
    settings = Settings.read(told)
    assert settings.mongodb() == "mongodb://u:p@db-0,db-1/?replicaSet=rs0"
    assert (settings.mongodb_port, settings.redis_database, settings.elasticsearch_port) == (27018, 0, 9201)
    assert (settings.mongodb_database, settings.elasticsearch_index_prefix) == ("lucid", "acme")
    assert settings.watch_namespaces == "lucid,other"
    assert settings.sweep_seconds == 86400
    assert settings.balancer_window == "22:00-06:00"
    served = settings.served("lucid")
    assert served is not None
    assert (served.databases, served.bucket_prefix) == (("lucid_*",), "lucid")
    assert settings.served("elsewhere") is not None


def test_a_variable_of_the_c_library_that_somebody_sets_stands_once(helm: Helm) -> None:
    objects = helm.objects({"extraEnv": [{"name": "MALLOC_ARENA_MAX", "value": "8"}]})
    deployment = next(each for each in objects if each["kind"] == "Deployment")
    names = [each["name"] for each in deployment["spec"]["template"]["spec"]["containers"][0]["env"]]
    assert names.count("MALLOC_ARENA_MAX") == names.count("MALLOC_TRIM_THRESHOLD_") == 1
    assert environment(objects)["MALLOC_ARENA_MAX"] == "8"


def test_signs_of_a_value_that_a_kubelet_would_read_reach_the_operator_as_they_are(helm: Helm) -> None:
    signs = "a$$b $(POD_NAMESPACE) $$(WORKERS) $"
    values = {
        "servedNamespaces": {"lucid": {"keys": [signs]}},
        "backups.s3.ca": signs,
        "volumes.kubeletCA": signs,
    }
    settings = Settings.read(environment(helm.objects(values)))
    served = settings.served("lucid")
    assert served is not None
    assert served.keys == (signs,)
    assert (settings.backup_s3_ca, settings.kubelet_ca) == (signs, signs)


def test_defaults_of_the_chart_are_the_defaults_of_the_operator(helm: Helm) -> None:
    told = environment(helm.objects({}))
    del told["POD_NAMESPACE"]
    assert told.pop("WORKER_IMAGE").startswith("lucid-storage:")
    # The path of the cluster's own authority in any pod, which only who runs in one can take for granted.
    assert told.pop("KUBELET_CA") == "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
    assert told.pop("KUBELET_SERVICE_ACCOUNT") == "lucid-storage-kubelet"
    assert Settings.read(told) == Settings.read({})


def test_bounds_of_the_values_are_those_of_the_settings() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())["properties"]["settings"][
        "properties"
    ]
    model = Settings.model_json_schema()["properties"]
    for value, alias in {
        "sweepSeconds": "SWEEP_SECONDS",
        "fallbackSweepSeconds": "FALLBACK_SWEEP_SECONDS",
        "cacheScanSeconds": "CACHE_SCAN_SECONDS",
        "workers": "WORKERS",
        "leaseSeconds": "LEASE_SECONDS",
    }.items():
        assert schema[value]["minimum"] == model[alias]["minimum"], value
        assert schema[value]["maximum"] <= model[alias].get("maximum", float("inf")), value


def test_every_value_has_its_place_in_the_schema() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(schema["properties"]) - set(values) == {"global"}
    undescribed = [name for name, part in schema["properties"].items() if not part.get("description")]
    assert undescribed == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replicas": 3}, "at '/replicas': maximum: got 3, want 2"),
        ({"replica": 2}, "additional properties 'replica' not allowed"),
        ({"stores.mongo": {"uri": "x"}}, "at '/stores': additional properties 'mongo' not allowed"),
        ({"rest.port": 80}, "at '/rest/port': minimum: got 80, want 1,024"),
        ({"settings.logLevel": "loud"}, "at '/settings/logLevel': value must be one of"),
        ({"settings.workers": "many"}, "at '/settings/workers': got string, want integer"),
        ({"settings.balancerWindow": "22-6"}, "at '/settings/balancerWindow': '22-6' does not match"),
        ({"watchNamespaces": ["A_b"]}, "at '/watchNamespaces/0': 'A_b' does not match"),
        ({"servedNamespaces": {"Not/One": {}}}, "invalid propertyName 'Not/One'"),
        ({"health.port": 8089}, "rest.port and health.port are the same; give them different ports."),
        ({"podDisruptionBudget.enabled": True}, "podDisruptionBudget.enabled needs replicas: 2"),
        (
            {"stores.existingSecret": "mine", "stores.redis.url": "redis://r"},
            "stores.existingSecret is given together with values of stores (REDIS_URL); give one of the two.",
        ),
    ],
)
def test_wrong_values_are_refused_with_a_sentence(helm: Helm, values: Json, said: str) -> None:
    assert said in helm.refusal(values)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("stores.mongodb.uri", "write it as mongodb://... or mongodb+srv://..."),
        ("stores.redis.url", "write it as redis://... or rediss://..."),
        ("stores.elasticsearch.url", "write it as http://... or https://..."),
    ],
)
def test_a_wrong_address_of_a_store_is_refused_without_showing_it(helm: Helm, value: str, said: str) -> None:
    refusal = helm.refusal({value: "postgres://user:topsecret@db/"})
    assert said in refusal
    assert "topsecret" not in refusal


def test_passwords_are_in_the_secret_and_nowhere_else(helm: Helm) -> None:
    secrets = {"stores.mongodb.uri": "mongodb://u:topsecret@db/", "stores.redis.password": "topsecret"}
    rendered = helm.objects(secrets)
    elsewhere = [found for found in rendered if found["kind"] != "Secret"]
    assert "topsecret" not in yaml.safe_dump_all(elsewhere)
    assert "topsecret" in yaml.safe_dump(the(rendered, "Secret"))


def test_pods_are_replaced_when_and_only_when_the_stores_change(helm: Helm) -> None:
    def pods(password: str) -> Json:
        rendered = helm.objects({"stores.redis.host": "r", "stores.redis.password": password})
        template: Json = the(rendered, "Deployment")["spec"]["template"]
        return template

    assert pods("one") == pods("one")
    assert pods("one") != pods("two")


def test_a_secret_of_ones_own_is_used_and_none_is_made(helm: Helm) -> None:
    rendered = helm.objects({"stores.existingSecret": "mine"})
    assert of_kind(rendered, "Secret") == []
    container = the(rendered, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert container["envFrom"] == [{"secretRef": {"name": "mine"}}]


def test_in_namespaced_mode_without_rest_and_volumes_the_operator_gets_no_right_on_the_cluster(
    helm: Helm,
) -> None:
    without = {"rest.enabled": False, "rbac.aggregate": False, "volumes.enabled": False}
    rendered = helm.objects({"watchNamespaces": ["a"], **without})
    assert of_kind(rendered, "ClusterRole") == []
    assert of_kind(rendered, "ClusterRoleBinding") == []
    ports = the(rendered, "Service")["spec"]["ports"]
    assert [port["name"] for port in ports] == ["health"]


def test_two_releases_of_one_name_share_no_object(helm: Helm) -> None:
    def names(namespace: str) -> set[tuple[str, str, str]]:
        rendered = helm.objects({"crds.install": False}, namespace=namespace)
        return {(o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]) for o in rendered}

    assert names("one") & names("two") == set()


def test_no_service_of_the_namespace_becomes_a_setting(helm: Helm) -> None:
    pod = the(helm.objects({}), "Deployment")["spec"]["template"]["spec"]
    assert pod["enableServiceLinks"] is False


def test_install_manifest_speaks_of_no_release() -> None:
    text = (project_root() / "manifests/install.yaml").read_text()
    assert "managed-by: Helm" not in text
    assert "helm.sh/chart" not in text
    objects = list(yaml.safe_load_all(text))
    assert objects[0]["kind"] == "Namespace"
    namespaced = [o["metadata"]["namespace"] for o in objects if "namespace" in o["metadata"]]
    assert set(namespaced) == {"lucid-storage"}


@pytest.mark.parametrize("off", [{"volumes.kubeletCA": ""}, {"volumes.enabled": False}])
def test_no_account_for_kubelets_is_made_where_none_is_asked(helm: Helm, off: Json) -> None:
    names = [r["metadata"]["name"] for r in helm.objects(off)]
    assert not [name for name in names if name.endswith("-kubelet")]
    assert [name for name in (r["metadata"]["name"] for r in helm.objects({})) if name.endswith("-kubelet")]


def test_kubelets_are_shown_an_account_that_may_read_statistics_only(helm: Helm) -> None:
    rendered = helm.objects({"volumes.kubeletCA": "/var/run/ca.crt"})
    (role,) = [r for r in of_kind(rendered, "ClusterRole") if r["metadata"]["name"].endswith("-kubelet")]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["nodes/stats"], "verbs": ["get"]}]
    (account,) = [
        a for a in of_kind(rendered, "ServiceAccount") if a["metadata"]["name"].endswith("-kubelet")
    ]
    container = the(rendered, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    variables = {e["name"]: e.get("value") for e in container["env"]}
    assert variables["KUBELET_SERVICE_ACCOUNT"] == account["metadata"]["name"]
    assert variables["KUBELET_CA"] == "/var/run/ca.crt"
    every = [rule for r in of_kind(rendered, "ClusterRole") for rule in r["rules"]]
    assert not [rule for rule in every if "nodes/proxy" in rule["resources"]]
