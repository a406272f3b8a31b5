"""The demo from its first step to its last."""

import json
import os
import time

from demo import disaster, drift, install, show
from testbed.bed import Bed, Stores
from testbed.cluster.provider import Cluster, choose
from testbed.errors import TestbedError
from testbed.paths import project_root
from testbed.progress import Progress

NAMESPACE = "lucid"
READY_SECONDS = 180.0


def run(bed: Bed, progress: Progress) -> None:
    """Raises TestbedError with what is missing."""
    began = time.monotonic()
    with progress.step("Cluster and stores"):
        bed.up("node", stores=True)
    cluster = choose(bed.instance, progress)
    stores = Stores.of(bed.instance, cluster.host_address(), progress)
    show.forget(stores)
    install.operator(cluster, stores, progress)
    with progress.step("Applying the data layer (kubectl apply -k manifests/lucid)"):
        cluster.kubectl("apply", "-k", str(project_root() / "manifests" / "lucid"))
    count = wait_until_ready(cluster, progress)
    progress.say(f"All {count} resources are Ready.")
    print(f"\n$ kubectl get lucid -A\n{cluster.kubectl('get', 'lucid', '-A')}")
    show.stores(cluster, stores)
    drift.show(stores)
    disaster.show(cluster, stores, progress)
    _go_on(time.monotonic() - began)


def wait_until_ready(cluster: Cluster, progress: Progress) -> int:
    """How many resources there are, once all of them are Ready."""
    end = time.monotonic() + READY_SECONDS
    told = -1
    while True:
        found = json.loads(cluster.kubectl("get", "collections,indexes,backupschedules", "-A", "-o", "json"))[
            "items"
        ]
        waiting = [item for item in found if not is_ready(item)]
        if found and not waiting:
            return len(found)
        if len(found) - len(waiting) != told:
            told = len(found) - len(waiting)
            progress.say(f"{told} of {len(found)} resources are Ready")
        if time.monotonic() > end:
            raise TestbedError(f"not Ready within {READY_SECONDS:.0f} s: {_reasons(waiting)}")
        time.sleep(0.5)


def is_ready(item: dict) -> bool:
    """Ready for the spec as it is now."""
    status = item.get("status", {})
    current = status.get("observedGeneration") == item["metadata"]["generation"]
    return current and any(
        c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", [])
    )


def _reasons(waiting: list[dict]) -> str:
    said = [
        f"{i['metadata']['name']}: {i.get('status', {}).get('message', 'no status')}" for i in waiting[:5]
    ]
    return "; ".join(said)


def _go_on(seconds: float) -> None:
    env = os.path.relpath(project_root() / ".testbed" / "env")
    print(
        f"""
That took {seconds:.0f} s. Go on:
  source {env}                              # kubectl, and the addresses of the stores
  kubectl get collections -n {NAMESPACE} -o wide
  kubectl describe index -n {NAMESPACE} users-email
  kubectl edit collection -n {NAMESPACE} users
  kubectl get backups -n {NAMESPACE}
Stop: make demo-down"""
    )
