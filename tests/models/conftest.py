"""An API server with the project's CRDs, shared by all workers of a run."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from lucid_storage.kube.client import Json, Kube, KubeApiError, load_configuration, resource_path
from lucid_storage.models.kinds import KINDS
from lucid_storage.models.meta import API_VERSION


@dataclass
class Namespace:
    """One namespace of the API server, through the operator's own client."""

    kube: Kube
    name: str
    made: set[str] = field(default_factory=set)

    async def create(self, kind: str, spec: Json, *, name: str | None = None, dry_run: bool = False) -> Json:
        """Strict, as `kubectl` is: unknown fields are refused."""
        if not dry_run:
            self.made.add(kind)
        query = {"fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
        body = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": name or f"test-{uuid.uuid4().hex[:8]}"},
            "spec": spec,
        }
        return await self.kube.request("POST", self.path(kind), query=query, body=body)

    async def refusal(self, kind: str, spec: Json, *, name: str | None = None) -> str:
        """What the API server says against the object."""
        with pytest.raises(KubeApiError) as refused:
            await self.create(kind, spec, name=name, dry_run=True)
        assert refused.value.status in {400, 422}
        return refused.value.message

    async def change(self, made: Json, patch: Json, *, sub: str | None = None) -> Json:
        """A merge patch."""
        path = self.path(made["kind"], made["metadata"]["name"], sub)
        changed = await self.kube.patch(path, patch)
        assert changed is not None
        return changed

    async def change_refusal(self, made: Json, patch: Json) -> str:
        with pytest.raises(KubeApiError) as refused:
            await self.change(made, patch)
        assert refused.value.status == 422
        return refused.value.message

    async def clear(self) -> None:
        """Removes what the test made, which has no finalizer."""
        for kind in self.made:
            await self.kube.request("DELETE", self.path(kind))
        self.made.clear()

    def path(self, kind: str, name: str | None = None, sub: str | None = None) -> str:
        return resource_path(KINDS[kind].plural, self.name, name, sub)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_namespace(kubernetes_api: Path) -> AsyncIterator[Namespace]:
    """A namespace of this worker, over one connection."""
    kube = Kube(await load_configuration(str(kubernetes_api)))
    name = f"models-{uuid.uuid4().hex[:8]}"
    await kube.request("POST", "/api/v1/namespaces", body={"metadata": {"name": name}})
    yield Namespace(kube, name)
    await kube.close()


@pytest_asyncio.fixture(loop_scope="session")
async def namespace(shared_namespace: Namespace) -> AsyncIterator[Namespace]:
    """The worker's namespace, with nothing of ours in it."""
    yield shared_namespace
    await shared_namespace.clear()
