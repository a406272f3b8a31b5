"""What a test leaves in a namespace of the shared API server goes, and the namespace stays.

To delete a namespace costs the API server some 75 requests a round, and while something in it waits for a finalizer,
whose operator ended with the test, there is a round every eight seconds until the end of the run: that was two thirds
of all requests.
"""

from lucid_storage.kube.client import Kube, resource_path
from lucid_storage.models.kinds import KINDS


async def clear(kube: Kube, namespace: str) -> None:
    """Delete our resources, Jobs, pods and claims of a namespace, and take off finalizers that nobody serves any more.
    Call it when its operators have ended. Nothing else there costs a server anything.
    """
    core = f"/api/v1/namespaces/{namespace}"
    # Claims last: Kubernetes keeps one while a pod uses it.
    others = (
        f"/apis/batch/v1/namespaces/{namespace}/jobs",
        f"{core}/pods",
        f"{core}/persistentvolumeclaims",
    )
    for path in (*_ours(namespace), *others):
        if await _let_go(kube, path):
            query = {"propagationPolicy": "Background", "gracePeriodSeconds": "0"}
            await kube.request("DELETE", path, query=query)


async def remove(kube: Kube, namespace: str) -> None:
    """Delete a namespace where pods run, which end as Kubernetes ends them."""
    for path in _ours(namespace):
        await _let_go(kube, path)
    await kube.request("DELETE", f"/api/v1/namespaces/{namespace}")


def _ours(namespace: str) -> list[str]:
    return [resource_path(info.plural, namespace) for info in KINDS.values()]


async def _let_go(kube: Kube, path: str) -> int:
    """Take the finalizers off the objects of a collection; says how many objects there are."""
    items = (await kube.request("GET", path))["items"]
    for item in items:
        if item["metadata"].get("finalizers"):
            await kube.patch(f"{path}/{item['metadata']['name']}", {"metadata": {"finalizers": None}})
    return len(items)
