"""Leadership by a Lease: at most one replica acts, a frozen one that wakes up does not.

The rules are those of client-go's leader election: a candidate takes over only after it has itself watched the
record unchanged for a whole lease duration, so clocks of different machines are never compared. Besides, every
write asks `guard()`, which compares the time of the last renewal on this machine's own clock. That clock goes on
while the process is stopped (SIGSTOP) or the machine is suspended.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime

from lucid_storage.errors import LeadershipLostError
from lucid_storage.kube.client import Json, Kube, KubeApiError

logger = logging.getLogger(__name__)


def boottime() -> float:
    """Seconds since boot, suspended time included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """One named Lease and this process's hold on it.

    `duration` is what others wait for (seconds); `renew_deadline` is how long a hold is trusted without renewal
    and is shorter, so that a holder stops acting before anyone else may start.
    """

    def __init__(
        self,
        kube: Kube,
        *,
        namespace: str,
        name: str,
        identity: str,
        duration: float = 15.0,
        renew_deadline: float = 10.0,
        retry: float = 2.0,
    ) -> None:
        assert retry < renew_deadline < duration
        self._kube = kube
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{name}"
        self._name = name
        self.identity = identity
        self._duration = duration
        self._renew_deadline = renew_deadline
        self._retry = retry
        self._request_seconds = renew_deadline / 3  # a silent connection must leave time for one more attempt
        self.trouble: str | None = None
        """Why the last attempt to take or renew it got no answer; None when it got one."""
        self._asked_once = False
        self._renewed: float | None = None
        self._unanswered = False
        """Whether a request to take it was sent whose answer is not known: it may be ours."""
        self._seen: tuple[str, float] | None = None  # resourceVersion, and when we first saw it

    @property
    def held(self) -> bool:
        """Whether this process may act right now."""
        return self._renewed is not None and boottime() - self._renewed < self._renew_deadline

    @property
    def standing_by(self) -> bool:
        """Whether it is known that another replica leads."""
        return self._asked_once and not self.held

    def guard(self) -> None:
        """Raise LeadershipLostError unless the hold is certain. Called right before every write."""
        if not self.held:
            raise LeadershipLostError("the leader lease was not renewed in time; this process may not act")

    async def acquire(self) -> None:
        """Wait until the lease is ours."""
        waiting_for = None
        while True:
            try:
                holder = await self._asked()
            except KubeApiError as error:
                logger.warning("leader lease: %s", error)
            else:
                if holder is None:
                    logger.info("this process leads", extra={"lease": self._name})
                    return
                if holder != waiting_for:
                    logger.info("standing by: %s leads", holder, extra={"lease": self._name})
                    waiting_for = holder
            await asyncio.sleep(self._retry)

    async def keep(self) -> None:
        """Renew until the hold is lost, then raise LeadershipLostError."""
        while True:
            await asyncio.sleep(self._retry)
            self.guard()
            try:
                holder = await self._asked()
            except KubeApiError as error:
                logger.warning("leader lease was not renewed: %s", error)
                continue
            if holder is not None:
                self._renewed = None
                raise LeadershipLostError(f"the leader lease was taken by {holder}")

    async def release(self) -> None:
        """Give the lease back, so that another replica need not wait for it to run out. Raises KubeApiError."""
        if not self.held and not self._unanswered:
            return
        current = await self._kube.get(self._path, seconds=3)
        if current is not None and current["spec"].get("holderIdentity") == self.identity:
            current["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
            await self._kube.request("PUT", self._path, body=current, guarded=False, seconds=3)
        self._renewed, self._unanswered = None, False

    async def _asked(self) -> str | None:
        """As `_try_once`, and remembers whether the API server answered."""
        try:
            holder = await self._try_once()
        except KubeApiError as error:
            self.trouble = str(error)
            raise
        self.trouble = None
        self._asked_once = True
        return holder

    async def _try_once(self) -> str | None:
        """Take or renew it. Returns None when it is ours, else the holder's identity."""
        started = boottime()
        current = await self._kube.get(self._path, seconds=self._request_seconds)
        if current is None:
            body = {"metadata": {"name": self._name}, "spec": self._record(0)}
            return await self._write("POST", self._collection, body, started)
        spec = current.get("spec", {})
        holder = spec.get("holderIdentity") or ""
        if holder and holder != self.identity and not self._expired(current):
            return str(holder)
        transitions = int(spec.get("leaseTransitions") or 0) + (holder != self.identity)
        current["spec"] = spec | self._record(transitions)
        return await self._write("PUT", self._path, current, started)

    async def _write(self, method: str, path: str, body: Json, started: float) -> str | None:
        self._unanswered = self._renewed is None
        try:
            await self._kube.request(method, path, body=body, guarded=False, seconds=self._request_seconds)
        except KubeApiError as error:
            self._unanswered = self._unanswered and error.status == 0
            if error.status == 409:
                return "another replica"
            raise
        self._unanswered = False
        self._renewed = started  # when the request was sent: others count from its arrival, which is later
        return None

    def _expired(self, current: Json) -> bool:
        version = str(current["metadata"]["resourceVersion"])
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, boottime())
        duration = float(current["spec"].get("leaseDurationSeconds") or self._duration)
        return boottime() - self._seen[1] > duration

    def _record(self, transitions: int) -> Json:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": round(self._duration),
            "renewTime": now,
            "leaseTransitions": transitions,
            **({"acquireTime": now} if not self.held else {}),
        }
