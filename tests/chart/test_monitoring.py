"""Alerts and dashboard speak of metrics that exist; Argo CD's health script says what the conditions say."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from chart_release import Helm, the

from lucid_storage.kinds.metrics import Metrics
from lucid_storage.kube.client import Json
from lucid_storage.models.kinds import KINDS
from testbed.argocd import health
from testbed.cluster import binaries
from testbed.paths import project_root
from testbed.progress import Progress

_NAME = re.compile(r"\blucid_[a-z_]+\b")
_SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}


def exported() -> set[str]:
    """Names of all samples that the operator's metrics can have."""
    families = [f for f in Metrics().registry.collect() if f.name.startswith("lucid_")]
    return {family.name + suffix for family in families for suffix in _SUFFIXES[family.type]}


def alerts() -> list[Json]:
    groups = yaml.safe_load((project_root() / "manifests/monitoring/alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> Json:
    board: Json = json.loads((project_root() / "manifests/monitoring/dashboard.json").read_text())
    return board


def test_alerts_use_metrics_that_the_operator_exports() -> None:
    used = {name for rule in alerts() for name in _NAME.findall(rule["expr"])}
    assert used
    assert used <= exported()


def test_everything_that_can_be_wrong_with_a_sharded_collection_has_its_alert() -> None:
    """Lasting states wait: a balancer may work by night alone, and a backup takes its time."""
    rules = {rule["alert"]: rule for rule in alerts()}
    expected = {
        "LucidStorageJumboChunks": ("lucid_sharded_collection_jumbo_chunks", "1h"),
        "LucidStorageShardsUnbalanced": ("lucid_sharded_collection_balanced", "1d"),
        "LucidStorageShardedBackupNeeded": ("lucid_sharded_collection_backup_needed", "1d"),
        "LucidStorageShardedCollectionNotReady": ("lucid_resources", "15m"),
    }
    for alert, (metric, lasting) in expected.items():
        assert metric in rules[alert]["expr"]
        assert rules[alert]["for"] == lasting
    # A resharding takes hours and is no trouble, so it is counted apart from what is not Ready.
    assert "lucid_sharded_collection_resharding" in rules["LucidStorageShardedCollectionNotReady"]["expr"]
    assert "ShardedCollection" in rules["LucidStorageNotReady"]["expr"]


def test_every_alert_says_what_to_do() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"].endswith(".")
        assert len(rule["annotations"]["description"].split(".")) > 2, rule["alert"]


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    expressions = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    used = {name for expression in expressions for name in _NAME.findall(expression)}
    assert used <= exported()
    ours = [f.name for f in Metrics().registry.collect() if f.name.startswith("lucid_")]
    unseen = {name for name in ours if not any(name in seen for seen in used)}
    assert unseen == set()


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_the_chart_carries_the_same_alerts_and_dashboard(helm: Helm) -> None:
    values: Json = {
        f"monitoring.{name}.enabled": True for name in ("serviceMonitor", "prometheusRule", "dashboard")
    }
    rendered = helm.objects({**values, "monitoring.serviceMonitor.labels": {"release": "prometheus"}})
    assert [
        rule for group in the(rendered, "PrometheusRule")["spec"]["groups"] for rule in group["rules"]
    ] == alerts()
    assert json.loads(the(rendered, "ConfigMap")["data"]["lucid-storage.json"]) == dashboard()
    monitor = the(rendered, "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    service = the(rendered, "Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}


def test_prometheus_accepts_the_alerts_and_fires_them() -> None:
    promtool = binaries.ensure(["promtool"], Progress())["promtool"]
    rules = project_root() / "manifests/monitoring/alerts.yaml"
    for command in (["check", "rules", rules], ["test", "rules", Path(__file__).parent / "alerts_fire.yaml"]):
        answer = subprocess.run([promtool, *command], capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stdout + answer.stderr


def condition(kind: str, status: str, message: str = "") -> Json:
    return {"type": kind, "status": status, "message": message}


def resource(*conditions: Json, generation: int = 3, observed: int = 3, **metadata: str) -> Json:
    status = {"observedGeneration": observed, "conditions": list(conditions)}
    return {"metadata": {"generation": generation, **metadata}, "status": status}


NOT_SEEN = "The operator has not seen the last change yet."
HEALTH = [
    (resource(condition("Ready", "True", "All is as declared.")), "Healthy", "All is as declared."),
    (
        resource(condition("Ready", "False", "x"), condition("Stalled", "True", "Set allowDataLoss.")),
        "Degraded",
        "Set allowDataLoss.",
    ),
    (
        resource(
            condition("Ready", "False"),
            condition("Reconciling", "True", "MongoDB is down."),
            condition("Stalled", "False"),
        ),
        "Progressing",
        "MongoDB is down.",
    ),
    (resource(condition("Ready", "True"), condition("Paused", "True", "Paused.")), "Suspended", "Paused."),
    (resource(condition("Ready", "True"), condition("Paused", "False")), "Healthy", ""),
    (
        resource(condition("Ready", "True"), observed=2),
        "Progressing",
        "The operator has not seen the last change yet.",
    ),
    (
        resource(condition("Stalled", "True"), observed=2),
        "Progressing",
        "The operator has not seen the last change yet.",
    ),
    (
        resource(condition("Ready", "True"), deletionTimestamp="2026-11-21T00:00:00Z"),
        "Progressing",
        "The resource is being deleted.",
    ),
    ({"metadata": {"generation": 1}}, "Progressing", "The operator has not looked at the resource yet."),
    (
        {"metadata": {"generation": 1}, "status": {}},
        "Progressing",
        "The operator has not looked at the resource yet.",
    ),
    (resource(condition("Ready", "Unknown", "Asking.")), "Progressing", "Asking."),
]


@pytest.mark.parametrize(("found", "status", "message"), HEALTH)
def test_argo_cd_shows_what_the_conditions_say(found: Json, status: str, message: str) -> None:
    assert health(found) == (status, message)


def test_argo_cd_has_the_script_for_every_kind() -> None:
    data = yaml.safe_load((project_root() / "manifests/argocd/argocd-cm.yaml").read_text())["data"]
    prefix = "resource.customizations.health.storage.lucid-blockchain.org_"
    assert data.keys() == {f"{prefix}{kind}" for kind in KINDS}
    assert set(data.values()) == {(project_root() / "manifests/argocd/health.lua").read_text()}


def test_the_page_names_every_metric_and_every_alert() -> None:
    page = (project_root() / "docs/monitoring.md").read_text()
    described = set(re.findall(r"^\| `(lucid_[a-z_]+)` \|", page, re.MULTILINE))
    families = [f for f in Metrics().registry.collect() if f.name.startswith("lucid_")]
    assert described == {f.name + ("_total" if f.type == "counter" else "") for f in families}
    assert re.findall(r"^\| (Lucid\w+) \| (\w+) \|", page, re.MULTILINE) == [
        (rule["alert"], rule["labels"]["severity"]) for rule in alerts()
    ]
