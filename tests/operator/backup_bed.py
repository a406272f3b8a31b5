"""Backups in the words of these tests, and workers whose pace a test sets."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from lucid_storage.kube.client import Json
from testbed.job_runner import JobRunner
from testbed.pytest_operator import World

CLAIM = "backups"
FAKE = Path(__file__).with_name("fake_worker.py")
IMAGE = {"WORKER_IMAGE": "lucid-storage:test"}
FINISHED = {"Completed", "PartiallyFailed", "Failed", "Cancelled", "Expired"}


def backup_spec(**spec: object) -> Json:
    return {
        "engines": ["mongodb"],
        "storage": {"volume": {"claimName": CLAIM}},
        **spec,
    }


@dataclass
class BackupBed:
    """A world with a claim for backups, and a node whose workers wait for files."""

    world: World
    runner: JobRunner
    fake: Path

    def release(self, name: str) -> None:
        (self.fake / f"release-{name}").touch()

    def mark(self, what: str) -> None:
        (self.fake / what).touch()

    def ran(self, name: str, command: str = "backup") -> int:
        """How often a worker began for a Backup."""
        return len(list(self.fake.glob(f"ran-{command}-{name}-*")))

    def stopped(self, name: str) -> bool:
        return (self.fake / f"stopped-{name}").exists()

    async def create(self, name: str, **spec: object) -> Json:
        return await self.world.create("Backup", name, backup_spec(**spec))

    async def status(self, name: str) -> Json:
        status: Json = (await self.world.get("Backup", name)).get("status", {})
        return status

    async def phase(self, name: str, *wanted: str, deadline: float = 30) -> Json:
        """Wait for a phase; returns the status."""
        last: Json = {}

        async def holds() -> bool:
            nonlocal last
            last = await self.status(name)
            return last.get("phase") in wanted

        try:
            await self.world.until(holds, deadline, f"Backup {name} to be {wanted}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {await self.told(name)}") from None
        return last

    async def told(self, name: str) -> str:
        """Everything that helps to understand why something has not come."""
        log = self.world.operators[-1].log.splitlines()[-12:] if self.world.operators else []
        jobs = [{"spec": j["spec"].get("suspend"), "status": j.get("status")} for j in await self.jobs()]
        pods = await self.world.kube.get(f"/api/v1/namespaces/{self.world.namespace}/pods")
        seen = [{"node": p["spec"].get("nodeName"), "status": p["status"]} for p in (pods or {})["items"]]
        return "\n".join([json.dumps(await self.status(name)), json.dumps(jobs), json.dumps(seen), *log])

    async def at_work(self, name: str, deadline: float = 30) -> None:
        """Wait until its worker runs."""

        async def runs() -> bool:
            return self.ran(name) > 0 and (await self.status(name)).get("startedAt") is not None

        try:
            await self.world.until(runs, deadline, f"the worker of {name}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {await self.told(name)}") from None

    async def let_go(self, name: str) -> None:
        """Wait until nothing holds the resource any more."""

        async def free() -> bool:
            return not (await self.world.get("Backup", name))["metadata"].get("finalizers")

        await self.world.until(free, 20, f"Backup {name} to be let go")

    def order(self, name: str, command: str = "backup") -> Json:
        """What the worker was told."""
        told: Json = json.loads((self.fake / f"order-{command}-{name}").read_text())
        return told

    async def delete_jobs(self) -> None:
        """As a person with kubectl would."""
        for job in await self.jobs():
            path = f"/apis/batch/v1/namespaces/{self.world.namespace}/jobs/{job['metadata']['name']}"
            await self.world.kube.request("DELETE", path, body={"propagationPolicy": "Background"})

    async def jobs(self) -> list[Json]:
        found = await self.world.kube.get(f"/apis/batch/v1/namespaces/{self.world.namespace}/jobs")
        return found["items"] if found is not None else []


def fake_command(fake: Path):  # type: ignore[no-untyped-def]
    def command(pod: Json) -> list[str]:
        launcher = (
            f"import os,runpy,sys; os.environ['LUCID_FAKE']={str(fake)!r}; runpy.run_path({str(FAKE)!r})"
        )
        return [sys.executable, "-c", launcher, *pod["spec"]["containers"][0]["args"]]

    return command


def conditions(status: Json) -> dict[str, str]:
    return {c["type"]: c["status"] for c in status.get("conditions", [])}


def reason(status: Json, kind: str = "Ready") -> str:
    return next((str(c["reason"]) for c in status.get("conditions", []) if c["type"] == kind), "")


async def make_claim(world: World, name: str = CLAIM) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    path = f"/api/v1/namespaces/{world.namespace}/persistentvolumeclaims"
    await world.kube.request("POST", path, body={"metadata": {"name": name}, "spec": spec})
