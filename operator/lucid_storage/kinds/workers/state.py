"""What a Job and its pod say about the worker. Pure: how long it has waited is an argument.

A worker that can give no result any more is lost, and that is found out in bounded time: every way of waiting has an
end here, and the Job's own deadline is behind them all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from pydantic import ValidationError

from lucid_storage.kube.client import Json
from lucid_storage.models.orders import Progress

NO_POD = timedelta(minutes=2)
"""How long a Job may be without a pod: a quota or an admission rule stands in the way then."""
NO_IMAGE = timedelta(minutes=5)
NO_NODE = timedelta(minutes=10)
NO_START = timedelta(minutes=10)
"""A volume that cannot be mounted, a Secret that is not there."""
NO_GOODBYE = timedelta(minutes=2)
"""After a pod's own grace: a node that does not confirm the end of a pod is lost."""
IMAGE_TROUBLE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
WORDS = 300
"""Characters of another program's message that are passed on."""


class WorkerPhase(StrEnum):
    """Where a worker stands."""

    ABSENT = "Absent"
    """There is no such Job."""
    SUSPENDED = "Suspended"
    """The Job was made and has not been let begin."""
    WAITING = "Waiting"
    RUNNING = "Running"
    STOPPING = "Stopping"
    """It was told to end and has not yet."""
    ENDED = "Ended"
    """It gave its result."""
    LOST = "Lost"


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A worker as seen from outside."""

    phase: WorkerPhase
    message: str = ""
    """What it waits for, or why it is lost."""
    result: str | None = None
    """Its last words, as it wrote them."""
    progress: Progress | None = None
    pod: str | None = None
    uid: str | None = None
    """Of the Job."""
    overdue: bool = False
    """It is lost because it took too long."""
    over: bool = False
    """It is lost and has ended for certain: there is nothing left to stop."""
    going: bool = False
    """The Job is being deleted: nobody need ask for that again."""

    @property
    def alive(self) -> bool:
        """Whether something of it may still act."""
        return self.phase in {
            WorkerPhase.SUSPENDED,
            WorkerPhase.WAITING,
            WorkerPhase.RUNNING,
            WorkerPhase.STOPPING,
        }


ABSENT = WorkerState(WorkerPhase.ABSENT)


def waits_for(job: Json | None, pods: Sequence[Json]) -> str | None:
    """What the worker waits for, as something that differs when it begins to wait for something else.

    None where it waits for nothing: it runs, has ended or has not been let begin.
    """
    if job is None or job["spec"].get("suspend"):
        return None
    uid = str(job["metadata"]["uid"])
    pod = _latest([p for p in pods if _controlled_by(p, uid)])
    if pod is None:
        return f"{uid}: a pod"
    name = str(pod["metadata"].get("uid") or pod["metadata"]["name"])
    if pod["metadata"].get("deletionTimestamp") is not None:
        return f"{uid}: the end of {name}"
    return f"{uid}: the start of {name}" if _container(pod).keys() <= {"waiting"} else None


def judge(job: Json | None, pods: Sequence[Json], waited: timedelta) -> WorkerState:
    """The state of one worker from its Job and pods. A pod that the Job does not control says nothing of it.

    `waited` is how long it has been seen waiting for what `waits_for` says.
    """
    if job is None:
        return ABSENT
    uid = str(job["metadata"]["uid"])
    pod = _latest([p for p in pods if _controlled_by(p, uid)])
    found = _ended(job, pod) or _stopping(job, pod, waited) or _under_way(job, pod, waited)
    return WorkerState(
        found.phase,
        found.message,
        found.result,
        pod=pod["metadata"]["name"] if pod is not None else None,
        uid=uid,
        overdue=found.overdue,
        over=found.over,
        going=job["metadata"].get("deletionTimestamp") is not None,
    )


def progress_in(log: str) -> Progress | None:
    """The last progress that a log tells."""
    for line in reversed(log.splitlines()):
        if not line.startswith('{"progress"'):
            continue
        try:
            return Progress.model_validate(json.loads(line)["progress"])
        except (ValueError, KeyError, TypeError, ValidationError):
            continue  # cut at the edge of what was read, or another program's line
    return None


def _controlled_by(pod: Json, uid: str) -> bool:
    """Whoever may make pods in the namespace can give them the labels of a Job's pods."""
    references = pod["metadata"].get("ownerReferences") or []
    return any(r.get("controller") is True and r.get("uid") == uid for r in references)


def _latest(pods: Sequence[Json]) -> Json | None:
    return max(pods, key=lambda p: str(p["metadata"].get("creationTimestamp", "")), default=None)


def _ended(job: Json, pod: Json | None) -> WorkerState | None:
    """The container is over, or nothing can come of the Job any more."""
    finished = _finished(job)
    terminated = _container(pod).get("terminated")
    if isinstance(terminated, Mapping):
        message = str(terminated.get("message") or "").strip()
        if message.startswith("{"):
            return WorkerState(WorkerPhase.ENDED, result=message)
        return _lost(_why(terminated, pod, finished), finished, over=True)
    if pod is not None and _is_over(pod):
        return _lost(_why({}, pod, finished), finished, over=pod is None or _is_over(pod))
    if finished is not None and (pod is None or finished.get("reason") == "DeadlineExceeded"):
        return _lost(_why({}, pod, finished), finished, over=pod is None or _is_over(pod))
    return None


def _stopping(job: Json, pod: Json | None, waited: timedelta) -> WorkerState | None:
    if pod is not None and pod["metadata"].get("deletionTimestamp") is not None:
        grace = timedelta(seconds=pod["metadata"].get("deletionGracePeriodSeconds") or 0)
        if waited > grace + NO_GOODBYE:
            return _lost("its node does not answer", None)
        return WorkerState(WorkerPhase.STOPPING, "it is being ended")
    if job["metadata"].get("deletionTimestamp") is not None:
        if pod is None:
            return WorkerState(WorkerPhase.ABSENT)
        return WorkerState(WorkerPhase.STOPPING, "it is being ended")
    return None


def _under_way(job: Json, pod: Json | None, waited: timedelta) -> WorkerState:
    if job["spec"].get("suspend"):
        return WorkerState(WorkerPhase.SUSPENDED)
    if pod is None:
        said = "no pod could be made for it; the events of the Job say why"
        return _waiting(said, "waits for its pod", waited, NO_POD)
    container = _container(pod)
    if "running" in container:
        return WorkerState(WorkerPhase.RUNNING)
    waiting = container.get("waiting") or {}
    reason, detail = str(waiting.get("reason") or "ContainerCreating"), _short(waiting.get("message"))
    if reason in IMAGE_TROUBLE:
        said = f"its image cannot be had ({reason}: {detail})"
        return _waiting(said, said, waited, NO_IMAGE)
    unplaced = _condition(pod, "PodScheduled", "False")
    if unplaced is not None:
        said = f"no node takes its pod ({_short(unplaced.get('message'))})"
        return _waiting(said, said, waited, NO_NODE)
    said = f"its pod does not start ({reason}: {detail})"
    return _waiting(said, "its pod is starting", waited, NO_START)


def _waiting(lost: str, waits: str, waited: timedelta, limit: timedelta) -> WorkerState:
    if waited > limit:
        return _lost(lost, None)
    return WorkerState(WorkerPhase.WAITING, waits)


def _why(terminated: Mapping[str, object], pod: Json | None, finished: Mapping[str, object] | None) -> str:
    status = pod.get("status", {}) if pod is not None else {}
    if terminated.get("reason") == "OOMKilled":
        return "it was ended because it used more memory than its limit (OOMKilled)"
    if status.get("reason") == "Evicted":
        return f"its pod was evicted ({_short(status.get('message'))})"
    if _overdue(finished) or status.get("reason") == "DeadlineExceeded":
        return "it did not end within its deadline"
    if terminated:
        code = terminated.get("exitCode")
        return f"it ended with exit status {code} and without a result; the log of its pod says more"
    if status.get("reason"):
        return f"its pod ended ({status['reason']}: {_short(status.get('message'))})"
    if finished is not None:
        return f"its pod is gone ({finished.get('reason')}: {_short(finished.get('message'))})"
    return "its pod is gone"


def _lost(why: str, finished: Mapping[str, object] | None, *, over: bool = False) -> WorkerState:
    return WorkerState(WorkerPhase.LOST, why, overdue=_overdue(finished), over=over)


def _is_over(pod: Json) -> bool:
    return pod.get("status", {}).get("phase") in {"Failed", "Succeeded"}


def _overdue(finished: Mapping[str, object] | None) -> bool:
    return finished is not None and finished.get("reason") == "DeadlineExceeded"


def _finished(job: Json) -> Mapping[str, object] | None:
    """The Job's condition that says that it is over, or is about to be."""
    for kind in ("Failed", "Complete", "FailureTarget"):
        found = _condition(job, kind, "True")
        if found is not None:
            return found
    return None


def _condition(body: Json, kind: str, value: str) -> Json | None:
    for condition in body.get("status", {}).get("conditions") or []:
        if condition.get("type") == kind and condition.get("status") == value:
            found: Json = condition
            return found
    return None


def _container(pod: Json | None) -> Json:
    statuses = (pod or {}).get("status", {}).get("containerStatuses") or []
    state: Json = statuses[0].get("state") or {} if statuses else {}
    return state


def _short(text: object) -> str:
    said = str(text or "no reason given").strip()
    return said if len(said) <= WORDS else f"{said[: WORDS - 1]}…"
