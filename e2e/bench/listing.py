"""The peer of a restart: a process that lists both kinds and parses the answers, and does nothing else.

python -m bench.listing NAMESPACE
"""

import asyncio
import sys

from lucid_storage.kube.client import Kube, load_configuration, resource_path


async def main(namespace: str) -> int:
    """Returns how many objects there were."""
    kube = Kube(await load_configuration())
    try:
        return sum(
            [
                len(page)
                for plural in ("collections", "indexes")
                async for page in kube.pages(resource_path(plural, namespace))
            ]
        )
    finally:
        await kube.close()


if __name__ == "__main__":
    print(asyncio.run(main(sys.argv[1])))
