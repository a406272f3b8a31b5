"""What a Job and its pod say: a worker that can give no result is lost, and that is known in bounded time."""

from datetime import timedelta
from typing import Any

import pytest
from worker_builder import ago, condition, job, pod, terminated, waiting

from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState, judge, progress_in, waits_for
from lucid_storage.kube.client import Json

SHORT, LONG = timedelta(seconds=100), timedelta(minutes=11)


def judged(made: Json | None, *pods: Json, waited: timedelta = SHORT) -> WorkerState:
    return judge(made, pods, waited)


class TestUnderWay:
    def test_without_a_job_it_is_absent(self) -> None:
        assert judged(None).phase is WorkerPhase.ABSENT

    def test_a_suspended_job_waits_to_be_let_begin(self) -> None:
        assert judged(job(condition("Suspended"), suspend=True)).phase is WorkerPhase.SUSPENDED

    @pytest.mark.parametrize(
        "pods",
        [
            [],
            [pod()],
            [pod(waiting("ContainerCreating"))],
            [pod(waiting("ErrImagePull", "no such host"))],
            [pod(conditions=[condition("PodScheduled", "Unschedulable", "0/1 nodes", "False")])],
        ],
    )
    def test_a_start_takes_its_time(self, pods: list[Json]) -> None:
        assert judged(job(), *pods).phase is WorkerPhase.WAITING

    def test_a_running_container_is_running(self) -> None:
        state = judged(job(), pod({"running": {}}, phase="Running"))
        assert (state.phase, state.pod) == (WorkerPhase.RUNNING, "j-abcde")

    def test_a_pod_that_is_being_ended_is_stopping_until_it_is_gone(self) -> None:
        leaving = pod({"running": {}}, phase="Running", deleted=ago(seconds=1))
        assert judged(job(deletionTimestamp=ago(seconds=9)), leaving).phase is WorkerPhase.STOPPING
        assert judged(job(deletionTimestamp=ago(seconds=9))).phase is WorkerPhase.ABSENT


class TestEnded:
    def test_its_last_words_are_its_result(self) -> None:
        state = judged(job(condition("Complete")), pod(terminated(0, '{"run":"r"}'), phase="Succeeded"))
        assert (state.phase, state.result) == (WorkerPhase.ENDED, '{"run":"r"}')

    def test_a_result_counts_although_the_pod_is_being_removed(self) -> None:
        leaving = pod(terminated(0, '{"run":"r"}'), phase="Succeeded", deleted=ago(seconds=1))
        assert judged(job(), leaving).phase is WorkerPhase.ENDED

    def test_a_job_that_is_being_deleted_says_so_beside_its_result(self) -> None:
        over = pod(terminated(0, '{"run":"r"}'), phase="Succeeded")
        state = judged(job(condition("Complete"), deletionTimestamp=ago(seconds=1)), over)
        assert (state.phase, state.going) == (WorkerPhase.ENDED, True)
        assert not judged(job(condition("Complete")), over).going

    @pytest.mark.parametrize("foreign", [{"job_uid": "u-0"}, {"controller": False}])
    def test_a_pod_that_the_job_does_not_control_does_not_speak_for_it(self, foreign: dict[str, Any]) -> None:
        forged = pod(terminated(0, '{"forged":1}'), phase="Succeeded", made=ago(seconds=1), **foreign)
        assert judged(job(), forged).phase is WorkerPhase.WAITING
        own = pod({"running": {}}, phase="Running")
        assert judged(job(), own, forged).phase is WorkerPhase.RUNNING
        said = pod(terminated(0, '{"run":"r"}'), phase="Succeeded")
        assert judged(job(), said, forged).result == '{"run":"r"}'

    def test_a_pod_without_an_owner_does_not_speak_for_it(self) -> None:
        bare = pod(terminated(0, '{"forged":1}'), phase="Succeeded")
        del bare["metadata"]["ownerReferences"]
        assert judged(job(), bare).result is None


class TestLost:
    @pytest.mark.parametrize(
        ("made", "pods", "said"),
        [
            (job(), [], "no pod could be made"),
            (job(), [pod(waiting("ImagePullBackOff", "not found"))], "image cannot be had"),
            (
                job(),
                [pod(conditions=[condition("PodScheduled", "x", "0/1 nodes fit", "False")])],
                "no node takes its pod (0/1 nodes fit)",
            ),
            (job(), [pod(waiting("CreateContainerConfigError", "secret not found"))], "secret not found"),
            (job(), [pod({"running": {}}, phase="Running", deleted=ago(days=1))], "node does not answer"),
        ],
    )
    def test_who_has_waited_too_long_is_lost(self, made: Json, pods: list[Json], said: str) -> None:
        state = judged(made, *pods, waited=LONG)
        assert state.phase is WorkerPhase.LOST
        assert said in state.message
        assert judged(made, *pods).alive, "whatever the API server's clock says"

    def test_a_pod_that_is_being_ended_has_its_grace_first(self) -> None:
        leaving = pod({"running": {}}, phase="Running", deleted=ago(seconds=1))
        leaving["metadata"]["deletionGracePeriodSeconds"] = 600
        assert judged(job(), leaving, waited=LONG).phase is WorkerPhase.STOPPING
        assert judged(job(), leaving, waited=LONG * 2).phase is WorkerPhase.LOST

    @pytest.mark.parametrize(
        ("made", "pods", "said"),
        [
            (job(), [pod(terminated(137, reason="OOMKilled"), phase="Failed")], "OOMKilled"),
            (job(), [pod(terminated(1, "Traceback", "Error"), phase="Failed")], "exit status 1"),
            (job(), [pod(phase="Failed", reason="Evicted", message="disk")], "evicted (disk)"),
            (job(condition("Failed", "DeadlineExceeded")), [], "within its deadline"),
            (job(condition("Failed", "BackoffLimitExceeded", "pod deleted")), [], "pod is gone"),
        ],
    )
    def test_it_is_lost_and_says_why(self, made: Json, pods: list[Json], said: str) -> None:
        state = judged(made, *pods)
        assert state.phase is WorkerPhase.LOST
        assert said in state.message

    def test_a_deadline_is_marked(self) -> None:
        assert judged(job(condition("Failed", "DeadlineExceeded"))).overdue

    def test_what_may_still_run_is_not_over(self) -> None:
        silent = pod({"running": {}}, phase="Running", deleted=ago(minutes=3))
        assert not judged(job(), silent, waited=LONG).over
        assert judged(job(), pod(terminated(137, reason="OOMKilled"), phase="Failed")).over


class TestWhatItWaitsFor:
    def test_each_step_is_another(self) -> None:
        begun = job()
        steps = [
            waits_for(begun, []),
            waits_for(begun, [pod()]),
            waits_for(begun, [pod({"running": {}}, phase="Running", deleted=ago(seconds=1))]),
            waits_for({**begun, "metadata": {**begun["metadata"], "uid": "u-2"}}, []),
        ]
        assert None not in steps
        assert len(set(steps)) == len(steps)

    def test_one_reason_after_another_is_one_start(self) -> None:
        unplaced = pod(conditions=[condition("PodScheduled", "x", "0/1 nodes fit", "False")])
        found = {waits_for(job(), [p]) for p in (unplaced, pod(), pod(waiting("ErrImagePull")))}
        assert len(found) == 1

    @pytest.mark.parametrize(
        ("made", "pods"),
        [
            (None, []),
            (job(suspend=True), []),
            (job(), [pod({"running": {}}, phase="Running")]),
            (job(), [pod(terminated(0, "{}"), phase="Succeeded")]),
        ],
    )
    def test_who_waits_for_nothing_is_not_counted(self, made: Json | None, pods: list[Json]) -> None:
        assert waits_for(made, pods) is None


class TestProgress:
    def test_the_last_whole_line_counts(self) -> None:
        log = '{"progress":{"phase":"Running","doneBytes":1}}\nINFO x\n{"progress":{"phase":"Verif'
        found = progress_in(log)
        assert found is not None
        assert (found.phase, found.done_bytes) == ("Running", 1)

    def test_a_log_without_progress_has_none(self) -> None:
        assert progress_in("INFO nothing\n") is None
