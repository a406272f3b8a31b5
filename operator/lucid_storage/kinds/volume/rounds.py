"""Rounds to the kubelets: one question a node for all Volumes, and which Volumes that is news to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from lucid_storage.errors import LeadershipLostError, LucidError
from lucid_storage.kinds.volume import usage
from lucid_storage.kinds.volume.book import UsageBook
from lucid_storage.kinds.volume.desired import resolve
from lucid_storage.kinds.volume.observed import Figures
from lucid_storage.kube.claims import Claims, Node
from lucid_storage.kube.client import KubeApiError
from lucid_storage.kube.kubelet import ClaimFigures, KubeletError, Kubelets
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.settings import Settings
from lucid_storage.models.volume import VolumeStatus

logger = logging.getLogger(__name__)

AT_ONCE = 4
"""Nodes that are asked at the same time."""
BUDGET_SECONDS = 60.0
"""Of a whole round: nodes that were not asked by then are asked in the next one."""


class UsageRounds:
    """`volumes` are the Volumes that are known, `touch` has one looked at, `nodes_changed` gets the names of nodes that
    came or went. Without `kubelets` only nodes are watched.
    """

    def __init__(
        self,
        claims: Claims,
        kubelets: Kubelets | None,
        book: UsageBook,
        settings: Settings,
        *,
        volumes: Callable[[], Iterable[Resource]],
        touch: Callable[[Key], None],
        nodes_changed: Callable[[frozenset[str]], None],
        failures: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._claims = claims
        self._kubelets = kubelets
        self._book = book
        self._settings = settings
        self._volumes = volumes
        self._touch = touch
        self._nodes_changed = nodes_changed
        self._failures = failures
        self._now = now
        self._ready: dict[str, bool] | None = None
        self._silent: dict[str, str] = {}
        """Why each node gave nothing in the last round: said once, not every minute."""
        self._first = 0

    async def run(self) -> None:
        """Round after round until cancelled."""
        while True:
            try:
                await self.round()
            except (KubeApiError, LucidError) as error:
                logger.warning("the use of volumes cannot be asked for now: %s", error.message)
            except LeadershipLostError:
                raise
            except Exception:
                logger.exception("a defect while asking for the use of volumes; it is tried again")
            await asyncio.sleep(self._settings.volume_stats_seconds)

    async def round(self) -> None:
        """One round. Raises KubeApiError and LucidError."""
        volumes = {(r.key.namespace, r.key.name): r for r in self._volumes()}
        self._book.keep_only(volumes)
        if not volumes:
            return
        nodes = await self._claims.nodes()
        self._tell_changes(nodes)
        if self._kubelets is None:
            return
        found = await self._asked([n for n in nodes if n.ready], self._kubelets)
        for one in found:
            resource = volumes.get((one.namespace, one.claim))
            if resource is not None:
                self._noted(resource, one)

    def _tell_changes(self, nodes: list[Node]) -> None:
        ready = {name: n.ready for n in nodes for name in (n.name, n.hostname)}
        before, self._ready = self._ready, ready
        if before is None:  # Volumes that were looked at before this round may have seen it Ready
            before = dict.fromkeys(ready, True)
        changed = frozenset(n for n in {*before, *ready} if before.get(n) != ready.get(n))
        if changed:
            self._nodes_changed(changed)

    async def _asked(self, nodes: list[Node], kubelets: Kubelets) -> list[ClaimFigures]:
        """Everything that came within the budget; the next round begins with another node."""
        found: list[ClaimFigures] = []
        gate = asyncio.Semaphore(AT_ONCE)

        async def ask(node: Node) -> None:
            async with gate:
                try:
                    found.extend(await kubelets.figures(node))
                    self._silent.pop(node.name, None)
                except (KubeletError, KubeApiError) as error:
                    self._failures()
                    if self._silent.get(node.name) != str(error):
                        self._silent[node.name] = str(error)
                        logger.warning("no use of volumes from a node: %s", error)

        self._first = (self._first + AT_ONCE) % len(nodes) if nodes else 0
        ordered = nodes[self._first :] + nodes[: self._first]
        try:
            async with asyncio.timeout(BUDGET_SECONDS):
                await asyncio.gather(*(ask(node) for node in ordered))
        except TimeoutError:
            logger.warning("not all nodes told the use of their volumes within %s s", BUDGET_SECONDS)
        return found

    def _noted(self, resource: Resource, one: ClaimFigures) -> None:
        figures = Figures(
            at=one.at,
            used=one.used,
            available=one.available,
            capacity=one.capacity,
            inodes_used=one.inodes_used,
            inodes=one.inodes,
        )
        counts = self._book.put((one.namespace, one.claim), figures)
        if counts and news(resource, figures, self._settings, self._now()):
            self._touch(resource.key)


def news(resource: Resource, figures: Figures, settings: Settings, now: datetime) -> bool:
    """Whether a look at the Volume would change something. Pure."""
    try:
        desired = resolve(resource, settings)
    except LucidError:
        return False
    status = VolumeStatus.model_validate(resource.status)
    if status.usage_unknown is not None:
        return True
    grows = desired.growth is not None and figures.percent >= desired.warning_percent
    return grows or usage.noted(desired, figures, status, now)[0] is not status
