"""The operator's image from the Dockerfile, and the chart."""

import hashlib
import json
import secrets
import tempfile
from pathlib import Path

from testbed.bed import Stores
from testbed.cluster import provider
from testbed.cluster.provider import Cluster
from testbed.errors import TestbedError
from testbed.paths import project_root
from testbed.progress import Progress

SYSTEM_NAMESPACE = "lucid-system"
RELEASE = "lucid-storage"
SECRET = "lucid-stores"
DATABASE = "lucid_blockchain"
BUCKET = "lucid-backups"
TENANT = "lucid"
KEYS_SECRET = "lucid-backup-keys"
KEY_ID = "k1"


def operator(cluster: Cluster, stores: Stores, progress: Progress) -> None:
    """Build, bring to the node, install or upgrade, and wait until it runs. Raises TestbedError."""
    root = project_root()
    name = cluster.provide_image(root / "Dockerfile", root, "lucid-storage:demo")
    with progress.step("Installing the operator (helm upgrade --install)"):
        _apply(cluster, _namespace(SYSTEM_NAMESPACE))
        _apply(cluster, _stores_secret(stores), _namespace(TENANT))
        _keys(cluster)
        stores.s3.make_bucket(BUCKET)
        try:
            _helm(cluster, _values(name, stores, _fingerprint(root, stores)))
        except TestbedError as error:
            raise TestbedError(f"{error}\n{_what_the_pods_say(cluster)}") from error


def _values(image: str, stores: Stores, fingerprint: str) -> dict:
    repository, _, tag = image.rpartition(":")
    return {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
        "stores": {"existingSecret": SECRET},
        "servedNamespaces": {TENANT: {"databases": [DATABASE], "indices": ["lucid-*"], "keys": ["lucid:*"]}},
        "backups": {
            "storage": "s3",
            "s3": {"bucket": BUCKET, "endpoint": stores.s3.url, "region": stores.s3.region},
        },
        "settings": {"cacheScanSeconds": 5},
        # The tag stays the same, so the pod is told by this when the image behind it changed.
        "podAnnotations": {"storage.lucid-blockchain.org/sources": fingerprint},
    }


def _helm(cluster: Cluster, values: dict) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values, file)
        file.flush()
        command = [
            str(cluster.tool("helm")),
            f"--kubeconfig={cluster.kubeconfig}",
            "upgrade",
            "--install",
            RELEASE,
        ]
        chart = str(project_root() / "helm" / "lucid-storage")
        options = [f"--namespace={SYSTEM_NAMESPACE}", f"--values={file.name}", "--wait", "--timeout=3m"]
        provider.run([*command, chart, *options])


def _what_the_pods_say(cluster: Cluster) -> str:
    pods = cluster.kubectl("get", "pods", "-n", SYSTEM_NAMESPACE)
    log = cluster.kubectl("logs", "-n", SYSTEM_NAMESPACE, f"deploy/{RELEASE}", "--tail=5", "--ignore-errors")
    return f"{pods}\nThe operator's last words:\n{log}"


def _apply(cluster: Cluster, *objects: dict) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    cluster.kubectl("apply", "--server-side", "-f", "-", document=text)


def _namespace(name: str) -> dict:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _stores_secret(stores: Stores) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": SYSTEM_NAMESPACE},
        "stringData": {
            "MONGODB_URI": stores.mongodb.uri,
            "MONGODB_DATABASE": DATABASE,
            "REDIS_URL": stores.redis.url,
            "ELASTICSEARCH_URL": stores.elasticsearch.url,
            "AWS_ACCESS_KEY_ID": stores.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": stores.s3.secret_key,
        },
    }


def _keys(cluster: Cluster) -> None:
    """The key of the backups, drawn once: earlier backups need it."""
    if cluster.kubectl(
        "get", "secret", KEYS_SECRET, "-n", TENANT, "--ignore-not-found", "-o", "name"
    ).strip():
        return
    labels = {"storage.lucid-blockchain.org/allowed": "true"}
    metadata = {"name": KEYS_SECRET, "namespace": TENANT, "labels": labels}
    document = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "stringData": {KEY_ID: secrets.token_hex(32)},
    }
    _apply(cluster, document)


def _fingerprint(root: Path, stores: Stores) -> str:
    digest = hashlib.sha256(f"{stores.mongodb.uri} {stores.redis.url} {stores.elasticsearch.url}".encode())
    files = [root / "Dockerfile", root / "requirements.lock", *sorted((root / "operator").rglob("*.py"))]
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
