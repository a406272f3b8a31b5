"""What helm makes of the chart, and what an API server says to it."""

import asyncio
import json
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from time import monotonic
from typing import Any

import yaml

from lucid_storage.kube.client import Json, Kube
from testbed.expansion import expanded
from testbed.paths import project_root

CHART = project_root() / "helm" / "lucid-storage"
KUBERNETES = "1.34.4"

Apply = Callable[..., str]
"""`apply(objects, dry_run=False)`: server-side, strict; AssertionError with what the API server says."""


class Helm:
    """helm with folders of its own, so that nothing of the person who runs the tests is read or written."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program = program
        self._environment = {
            "PATH": os.environ["PATH"],
            **{
                name: str(folder)
                for name in ("HOME", "HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")
            },
        }

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [self.program, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=self._environment)

    def done(self, *arguments: str | Path) -> str:
        answer = self.run(*arguments)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def text(self, values: Json, *, release: str = "lucid-storage", namespace: str = "lucid-storage") -> str:
        """The chart rendered with these values, as YAML."""
        return self.done(*self._template(release, namespace), *_set(values))

    def objects(
        self, values: Json, *, release: str = "lucid-storage", namespace: str = "lucid-storage"
    ) -> list[Json]:
        documents = yaml.safe_load_all(self.text(values, release=release, namespace=namespace))
        return [document for document in documents if document]

    def refusal(self, values: Json) -> str:
        """What helm says against these values."""
        answer = self.run(*self._template("lucid-storage", "lucid-storage"), *_set(values))
        assert answer.returncode != 0, "helm accepts these values"
        return answer.stderr

    def install(self, values: Json, kubeconfig: Path, namespace: str) -> None:
        where = [f"--kubeconfig={kubeconfig}", f"--namespace={namespace}"]
        self.done("install", "lucid-storage", CHART, *where, *_set(values))

    @staticmethod
    def _template(release: str, namespace: str) -> list[str]:
        return ["template", release, str(CHART), f"--namespace={namespace}", f"--kube-version={KUBERNETES}"]


def _set(values: Json) -> list[str]:
    return [f"--set-json={key}={json.dumps(value)}" for key, value in values.items()]


def of_kind(objects: Iterable[Json], kind: str) -> list[Json]:
    return [found for found in objects if found["kind"] == kind]


def the(objects: Iterable[Json], kind: str) -> Json:
    """The only object of the kind."""
    [found] = of_kind(objects, kind)
    return found


def environment(objects: Iterable[Json]) -> dict[str, str]:
    """What a kubelet tells the operator's container, by name; the chart's own Secret included."""
    found = list(objects)
    container = the(found, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    variables: dict[str, str] = {}
    for entry in container["env"]:
        variables[entry["name"]] = expanded(entry.get("value", ""), variables)
    for secret in of_kind(found, "Secret"):
        variables |= secret["stringData"]
    return variables


async def may(
    kube: Kube,
    account: str,
    verb: str,
    resource: str,
    *,
    group: str = "",
    namespace: str = "",
    name: str = "",
    groups: Iterable[str] = (),
) -> bool:
    """Whether the authorizer lets the user; `resource` may be `resource/subresource`."""
    plural, _, sub = resource.partition("/")
    attributes = {"group": group, "resource": plural, "subresource": sub, "verb": verb}
    attributes |= {"namespace": namespace, "name": name}
    body: dict[str, Any] = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": account, "groups": list(groups), "resourceAttributes": attributes},
    }
    answer = await kube.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body=body)
    return bool(answer["status"]["allowed"])


async def until(holds: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
    """AssertionError when it does not hold within the seconds."""
    end = monotonic() + seconds
    while not await holds():
        assert monotonic() < end, f"waited {seconds} s for {what}"
        await asyncio.sleep(0.1)
