"""Backups and restores that ended are counted once, by result and reason, from the status that was written."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from lucid_storage.kinds.backup_metrics import OutcomeMetrics
from lucid_storage.kube.client import Json


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def outcomes(registry: CollectorRegistry) -> OutcomeMetrics:
    return OutcomeMetrics(registry)


def ended(phase: str, reason: str = "Completed", **more: Any) -> Json:
    conditions = [{"type": "Stalled", "reason": "Other"}, {"type": "Ready", "reason": reason}]
    moments = {"startedAt": "2026-05-06T02:00:00Z", "completedAt": "2026-05-06T02:01:40Z"}
    return {"phase": phase, "conditions": conditions, **moments, **more}


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"lucid_{name}", labels)


def test_every_result_is_there_before_anything_ended_so_that_the_first_failure_is_a_rise(
    registry: CollectorRegistry, outcomes: OutcomeMetrics
) -> None:
    for kind in ("full", "incremental", "differential"):
        for result in ("Completed", "PartiallyFailed", "Failed", "Cancelled"):
            assert value(registry, "backups_total", type=kind, result=result) == 0
    for result in ("Completed", "Failed", "Cancelled"):
        assert value(registry, "restores_total", result=result) == 0


def test_a_completed_backup_has_a_duration_and_a_size(
    registry: CollectorRegistry, outcomes: OutcomeMetrics
) -> None:
    outcomes.written("Backup", {}, "Verifying", ended("Completed", type="full", storedBytes=2_000_000))
    assert value(registry, "backups_total", type="full", result="Completed") == 1
    assert value(registry, "backup_duration_seconds_sum", type="full") == 100
    assert value(registry, "backup_stored_bytes_sum", type="full") == 2_000_000
    assert value(registry, "backup_stored_bytes_bucket", type="full", le="1.048576e+06") == 0
    assert value(registry, "backup_failures_total", type="full", reason="Completed") is None


def test_what_was_made_counts_and_not_what_was_asked_for(
    registry: CollectorRegistry, outcomes: OutcomeMetrics
) -> None:
    outcomes.written("Backup", {"type": "incremental"}, "Running", ended("Completed", type="full"))
    assert value(registry, "backups_total", type="full", result="Completed") == 1
    assert value(registry, "backups_total", type="incremental", result="Completed") == 0


@pytest.mark.parametrize(
    ("phase", "reason"),
    [("Failed", "NoOplog"), ("PartiallyFailed", "PartiallyFailed"), ("Cancelled", "Cancelled")],
)
def test_a_failure_is_counted_with_its_reason_and_has_no_duration(
    registry: CollectorRegistry, outcomes: OutcomeMetrics, phase: str, reason: str
) -> None:
    outcomes.written("Backup", {"type": "incremental"}, None, ended(phase, reason))
    assert value(registry, "backups_total", type="incremental", result=phase) == 1
    assert value(registry, "backup_failures_total", type="incremental", reason=reason) == 1
    assert value(registry, "backup_duration_seconds_count", type="incremental") is None


def test_what_is_written_of_a_finished_backup_is_no_second_end(
    registry: CollectorRegistry, outcomes: OutcomeMetrics
) -> None:
    done = ended("Completed", type="full")
    outcomes.written("Backup", {}, "Running", done)
    outcomes.written("Backup", {}, "Completed", done)
    outcomes.written("Backup", {}, "Completed", {**done, "phase": "Expired"})
    assert value(registry, "backups_total", type="full", result="Completed") == 1


def test_a_backup_that_only_goes_on_is_not_counted(
    registry: CollectorRegistry, outcomes: OutcomeMetrics
) -> None:
    outcomes.written("Backup", {}, None, {"phase": "Queued"})
    outcomes.written("Backup", {}, "Queued", {"phase": "Running"})
    samples = [s for f in registry.collect() for s in f.samples if s.name == "lucid_backups_total"]
    assert sum(s.value for s in samples) == 0


def test_restores_are_counted_by_outcome_again_after_a_further_run(
    registry: CollectorRegistry, outcomes: OutcomeMetrics
) -> None:
    outcomes.written("Restore", {}, "Loading", ended("Failed", "TargetNotEmpty"))
    outcomes.written("Restore", {}, "Failed", {"phase": "Planning"})
    outcomes.written("Restore", {}, "Swapping", ended("Completed"))
    assert value(registry, "restores_total", result="Failed") == 1
    assert value(registry, "restore_failures_total", reason="TargetNotEmpty") == 1
    assert value(registry, "restores_total", result="Completed") == 1
    assert value(registry, "restore_duration_seconds_sum") == 100
