"""What kopf's styles of handlers cost: writes into objects, marks left in them, memory.

Prints the table of kopf.md. Run it with the project's environment:
PYTHONPATH=e2e .venv/bin/python docs/decisions/measure_kopf.py
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from testbed.cluster.controlplane import ControlPlane
from testbed.paths import Instance, project_root
from testbed.progress import Progress

OBJECTS = 300
STYLES = ("import", "event", "create and update", "delete", "timer")
GROUP, VERSION, PLURAL = "storage.lucid-blockchain.org", "v1alpha1", "collections"
DEADLINE = 120.0


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        plane = ControlPlane(Instance("kopf", Path(folder)), Progress())
        plane.start()
        try:
            _kubectl(plane, "apply", "--server-side", "-f", str(project_root() / "crds"))
            print(
                f"| handlers | patches for {OBJECTS} objects | annotations, bytes each | finalizers | memory |"
            )
            print("| --- | --- | --- | --- | --- |")
            for style in STYLES:
                print(f"| {style} | {' | '.join(_measure(plane, style))} |", flush=True)
        finally:
            plane.stop()


def _measure(plane: ControlPlane, style: str) -> list[str]:
    if style != "import":
        _kubectl(plane, "create", "namespace", _namespace(style))
        _kubectl(plane, "create", "-f", "-", text=json.dumps(_list(_namespace(style))))
    before = _patches(plane)
    command = [sys.executable, __file__, "--run", style]
    environment = {**os.environ, "KUBECONFIG": str(plane.kubeconfig)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "seen all\n":
            raise SystemExit(f"the process with {style} handlers ended")
        memory = _settled_memory(plane, process.pid)
        process.kill()
    marks = (
        ["", "", ""]
        if style == "import"
        else [str(_patches(plane) - before), *_marks(plane, _namespace(style))]
    )
    return [*marks, f"{memory / 1024:.0f} MiB"]


def _namespace(style: str) -> str:
    return style.replace(" ", "-")


def _list(namespace: str) -> dict[str, Any]:
    metadata = [{"name": f"c{number}", "namespace": namespace} for number in range(OBJECTS)]
    kind = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Collection"}
    items = [{**kind, "metadata": each, "spec": {"database": "measured"}} for each in metadata]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _settled_memory(plane: ControlPlane, pid: int) -> int:
    """Resident KiB, once no patch has arrived for three seconds. kopf's own writes come late."""
    end = time.monotonic() + DEADLINE
    seen, since = _patches(plane), time.monotonic()
    while time.monotonic() - since < 3:
        if time.monotonic() > end:
            raise SystemExit("the patches do not end")
        time.sleep(0.5)
        if _patches(plane) != seen:
            seen, since = _patches(plane), time.monotonic()
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0])


def _patches(plane: ControlPlane) -> int:
    metrics = _kubectl(plane, "get", "--raw", "/metrics")
    lines = [line for line in metrics.splitlines() if line.startswith("apiserver_request_total{")]
    wanted = ('verb="PATCH"', f'resource="{PLURAL}"')
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if all(w in line for w in wanted))


def _marks(plane: ControlPlane, namespace: str) -> list[str]:
    items = json.loads(_kubectl(plane, "get", PLURAL, "-n", namespace, "-o", "json"))["items"]
    annotations = [item["metadata"].get("annotations", {}) for item in items]
    size = sum(len(k) + len(v) for each in annotations for k, v in each.items()) // len(items)
    return [str(size), str(sum(len(item["metadata"].get("finalizers", [])) for item in items))]


def _kubectl(plane: ControlPlane, *arguments: str, text: str | None = None) -> str:
    command = [str(plane.kubectl), f"--kubeconfig={plane.kubeconfig}", *arguments]
    return subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout


def run(style: str) -> None:
    """The measured process: kopf with one handler that does nothing but count."""
    import kopf  # noqa: PLC0415 - the measured import

    if style == "import":
        print("seen all", flush=True)
        time.sleep(DEADLINE)
        return
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(kopf.login_with_kubeconfig)
    handler = _counter()
    resource = (GROUP, VERSION, PLURAL)
    match style:
        case "event":
            kopf.on.event(*resource, registry=registry)(handler)
        case "create and update":
            kopf.on.create(*resource, registry=registry)(handler)
            kopf.on.update(*resource, registry=registry)(handler)
            kopf.on.resume(*resource, registry=registry)(handler)
        case "delete":
            kopf.on.event(*resource, registry=registry)(handler)
            kopf.on.delete(*resource, registry=registry)(handler)
        case "timer":
            kopf.on.timer(*resource, interval=600, registry=registry)(handler)
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    namespaces = [_namespace(style)]
    asyncio.run(kopf.operator(registry=registry, settings=settings, standalone=True, namespaces=namespaces))


def _counter() -> Callable[..., Awaitable[None]]:
    names: set[str] = set()

    async def count(name: str, **_: Any) -> None:
        names.add(name)
        if len(names) == OBJECTS:
            print("seen all", flush=True)

    return count


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run(sys.argv[2])
    else:
        main()
