"""Plays kubelet: pods of our Jobs run as processes of this machine, on an API server that has no node.

All else is real: the Job controller makes the pods and judges them, the API server proxies a pod's log to us as it
does to a kubelet. Only pods in the given namespaces are taken, so that test runs on one API server do not meet.
"""

import asyncio
import base64
import contextlib
import http.server
import json
import os
import shutil
import signal
import ssl
import sys
import threading
import urllib.parse
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lucid_storage.kube.client import Json, Kube, KubeApiError
from testbed.expansion import expanded
from testbed.paths import project_root

LABEL = "app.kubernetes.io/name=lucid-storage"
TICK_SECONDS = 0.1
HEARTBEAT_SECONDS = 8.0
TERMINATION_BYTES = 4096
Command = Callable[[Json], Sequence[str]]
"""The command line of a pod's container."""


def worker_command(pod: Json) -> list[str]:
    """What the image would run."""
    return [sys.executable, "-m", "lucid_storage", *pod["spec"]["containers"][0]["args"]]


@dataclass(eq=False)
class RunningPod:
    """One pod as a process."""

    name: str
    namespace: str
    uid: str
    folder: Path
    process: asyncio.subprocess.Process
    grace: float
    asked: float | None = None
    told: bool = False

    @property
    def log(self) -> Path:
        return self.folder / "log"


@dataclass
class JobRunner:
    """`async with runner.running():` takes pods until the block ends."""

    kube: Kube
    namespaces: Sequence[str]
    folder: Path
    command: Command = worker_command
    node: str = field(default_factory=lambda: f"runner-{uuid.uuid4().hex[:8]}")
    started: list[str] = field(default_factory=list)
    """Names of the pods that were begun, in order."""
    pods: dict[str, RunningPod] = field(default_factory=dict)
    """Those that run or ended, by UID."""
    paused: bool = False
    """No pod is begun meanwhile: they wait for a node."""
    dead: bool = False
    """The node does nothing any more and says so to nobody."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["JobRunner"]:
        self.folder.mkdir(parents=True, exist_ok=True)
        server = self._log_server()
        port = int(server.server_address[1])
        await self._register(port)
        work = asyncio.create_task(self._work())
        beat = asyncio.create_task(self._beat())
        try:
            yield self
        finally:
            for task in (work, beat):
                task.cancel()
            await asyncio.gather(work, beat, return_exceptions=True)
            for pod in self.pods.values():
                if pod.process.returncode is None:
                    pod.process.kill()
                    await pod.process.wait()
            await asyncio.to_thread(server.shutdown)
            server.server_close()
            with contextlib.suppress(KubeApiError):
                await self.kube.request("DELETE", f"/api/v1/nodes/{self.node}")
            shutil.rmtree(self.folder, ignore_errors=True)

    def running_pods(self) -> list[RunningPod]:
        return [pod for pod in self.pods.values() if pod.process.returncode is None]

    # The node

    async def _register(self, port: int) -> None:
        await self.kube.request(
            "POST",
            "/api/v1/nodes",
            body={"metadata": {"name": self.node}, "spec": {"unschedulable": True}},
        )
        await self._node_status(port)

    async def _node_status(self, port: int) -> None:
        now = _stamp()
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "conditions": [ready],
        }
        await self.kube.patch(f"/api/v1/nodes/{self.node}/status", {"status": status})

    async def _beat(self) -> None:
        """A node that gives no sign of life loses its pods after 40 s."""
        path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        while True:
            if not self.dead:
                spec = {"holderIdentity": self.node, "leaseDurationSeconds": 40, "renewTime": _micro()}
                with contextlib.suppress(KubeApiError):
                    if await self.kube.patch(f"{path}/{self.node}", {"spec": spec}) is None:
                        body = {"metadata": {"name": self.node}, "spec": spec}
                        await self.kube.request("POST", path, body=body)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _work(self) -> None:
        while True:
            if not self.dead:
                for namespace in self.namespaces:
                    with contextlib.suppress(KubeApiError):  # a busy API server: the next look comes at once
                        await self._look(namespace)
            await asyncio.sleep(TICK_SECONDS)

    async def _look(self, namespace: str) -> None:
        found = await self.kube.request(
            "GET", f"/api/v1/namespaces/{namespace}/pods", query={"labelSelector": LABEL}
        )
        for pod in found["items"]:
            with contextlib.suppress(KubeApiError):  # changed or gone meanwhile: the next look sees it
                await self._take(pod)

    async def _take(self, pod: Json) -> None:
        meta, uid = pod["metadata"], pod["metadata"]["uid"]
        running = self.pods.get(uid)
        if running is not None:
            await self._follow(pod, running)
        elif meta.get("deletionTimestamp"):
            if pod["spec"].get("nodeName") in (None, self.node):
                await self._remove(pod)
        elif self.paused:
            return
        elif not pod["spec"].get("nodeName"):
            await self._bind(pod)
        elif pod["spec"]["nodeName"] == self.node:
            await self._begin(pod)

    async def _bind(self, pod: Json) -> None:
        meta = pod["metadata"]
        body = {"metadata": {"name": meta["name"]}, "target": {"kind": "Node", "name": self.node}}
        await self.kube.request("POST", f"{_path(pod)}/binding", body=body)

    # One pod

    async def _begin(self, pod: Json) -> None:
        container = pod["spec"]["containers"][0]
        folder = self.folder / pod["metadata"]["uid"]
        folder.mkdir(exist_ok=True)
        try:
            environment = await self._environment(pod, container, folder)
        except LookupError as missing:
            waiting = {"reason": "CreateContainerConfigError", "message": str(missing)}
            await self._status(pod, "Pending", {"waiting": waiting})
            return
        with (folder / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *self.command(pod), stdout=log, stderr=log, env=environment, cwd=folder
            )
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        grace = float(pod["spec"].get("terminationGracePeriodSeconds", 30))
        self.pods[pod["metadata"]["uid"]] = RunningPod(
            name, namespace, pod["metadata"]["uid"], folder, process, grace
        )
        self.started.append(name)
        await self._status(pod, "Running", {"running": {"startedAt": _stamp()}})

    async def _follow(self, pod: Json, running: RunningPod) -> None:
        deleted = pod["metadata"].get("deletionTimestamp") is not None
        code = running.process.returncode
        if code is None and deleted:
            if running.asked is None:
                running.asked = monotonic()
                running.process.send_signal(signal.SIGTERM)
            elif monotonic() - running.asked > running.grace:
                running.process.kill()
        if code is None:
            return
        if not running.told:
            running.told = True
            await self._ended(pod, running, code)
        if deleted:
            await self._remove(pod)

    async def _ended(self, pod: Json, running: RunningPod, code: int) -> None:
        path = running.folder / "termination"
        message = path.read_bytes()[-TERMINATION_BYTES:].decode(errors="replace") if path.exists() else ""
        exit_code = code if code >= 0 else 128 - code
        terminated = {
            "exitCode": exit_code,
            "reason": "Completed" if code == 0 else "Error",
            "message": message,
            "startedAt": _stamp(),
            "finishedAt": _stamp(),
        }
        await self._status(pod, "Succeeded" if code == 0 else "Failed", {"terminated": terminated})

    async def _remove(self, pod: Json) -> None:
        await self.kube.request("DELETE", _path(pod), body={"gracePeriodSeconds": 0})

    async def _status(self, pod: Json, phase: str, state: Json) -> None:
        container = pod["spec"]["containers"][0]
        shown = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": "running" in state,
            "restartCount": 0,
            "state": state,
        }
        status = {"phase": phase, "startTime": _stamp(), "containerStatuses": [shown]}
        await self.kube.patch(f"{_path(pod)}/status", {"status": status})

    async def _environment(self, pod: Json, container: Json, folder: Path) -> dict[str, str]:
        namespace = pod["metadata"]["namespace"]
        mounts = await self._mounts(pod, container, folder)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join([str(project_root() / "operator"), str(project_root() / "e2e")]),
            "LUCID_TERMINATION_PATH": str(folder / "termination"),
        }
        given: dict[str, str] = {}
        for variable in container.get("env", []):
            if "valueFrom" in variable:
                value = await self._entry(namespace, variable["valueFrom"]["secretKeyRef"])
            else:
                value = expanded(variable.get("value", ""), given)
            if value is not None:
                given[variable["name"]] = value
        return environment | {name: _moved(value, mounts) for name, value in given.items()}

    async def _entry(self, namespace: str, reference: Json) -> str | None:
        held = await self._secret(namespace, reference["name"], optional=reference.get("optional", False))
        if reference["key"] in held:
            return held[reference["key"]].decode()
        if reference.get("optional"):
            return None
        raise LookupError(f"couldn't find key {reference['key']} in Secret {namespace}/{reference['name']}")

    async def _secret(self, namespace: str, name: str, *, optional: bool = False) -> Mapping[str, bytes]:
        found = await self.kube.secret(namespace, name)
        if found is None:
            if optional:
                return {}
            raise LookupError(f'secret "{name}" not found')
        return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}

    async def _mounts(self, pod: Json, container: Json, folder: Path) -> dict[str, str]:
        """Folders of this machine by mount path."""
        namespace = pod["metadata"]["namespace"]
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        made = {}
        for mount in container.get("volumeMounts", []):
            volume = volumes[mount["name"]]
            place = folder / "volumes" / mount["name"]
            if claim := volume.get("persistentVolumeClaim"):
                place = self.claim_folder(namespace, claim["claimName"])
            place.mkdir(parents=True, exist_ok=True)
            if secret := volume.get("secret"):
                await self._write_secret(namespace, secret, place)
            made[mount["mountPath"]] = str(place)
        return made

    def claim_folder(self, namespace: str, claim: str) -> Path:
        """Where the data of a claim lie."""
        return self.folder / "claims" / namespace / claim

    async def _write_secret(self, namespace: str, secret: Json, place: Path) -> None:
        held = await self._secret(namespace, secret["secretName"])
        items = secret.get("items") or [{"key": key, "path": key} for key in held]
        for item in items:
            (place / item["path"]).write_bytes(held[item["key"]])

    # What a kubelet serves

    def _log_server(self) -> http.server.ThreadingHTTPServer:
        runner = self

        class Logs(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urllib.parse.urlsplit(self.path)
                _, kind, namespace, name, _ = [*parts.path.split("/"), "", "", ""][:5]
                lines = int(urllib.parse.parse_qs(parts.query).get("tailLines", ["1000"])[0])
                found = next(
                    (p for p in list(runner.pods.values()) if (p.namespace, p.name) == (namespace, name)),
                    None,
                )
                if kind != "containerLogs" or found is None or not found.log.exists():
                    self.send_error(404)
                    return
                text = b"".join(found.log.read_bytes().splitlines(keepends=True)[-lines:])
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *arguments: object) -> None:
                del arguments

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Logs)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(_certificate(self.folder))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return server


def _certificate(folder: Path) -> Path:
    """A key and a certificate signed with it: the API server does not check a kubelet's unless told to."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "runner")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "kubelet.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


def _path(pod: Json) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def _moved(value: str, mounts: Mapping[str, str]) -> str:
    """A path below a mount, as it is on this machine."""
    for mount, place in mounts.items():
        if value == mount or value.startswith(f"{mount}/"):
            return place + value[len(mount) :]
    return value


def _stamp() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _micro() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def tail(pod: RunningPod) -> list[Json]:
    """The JSON lines of a pod's log."""
    lines = pod.log.read_text(errors="replace").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]
