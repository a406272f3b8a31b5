"""A Volume whose use nobody tells says so, and what to set; restarts make no noise."""

from dataclasses import replace
from datetime import timedelta

import pytest
from volume_builders import NOW, claim, figures, pod, seen, volume

from lucid_storage.kinds.volume.book import UsageBook
from lucid_storage.kinds.volume.desired import resolve
from lucid_storage.kinds.volume.observed import VolumeObserved
from lucid_storage.kinds.volume.unwatched import Watch, expected, noted, rows, watch_of
from lucid_storage.models.settings import Settings
from lucid_storage.models.volume import VolumeStatus

KUBELETS = Watch(kubelets=True, readers=False, every=timedelta(minutes=1))
READERS = Watch(kubelets=True, readers=True, every=timedelta(hours=1))
NOBODY = watch_of(Settings())
GROWING = {"autoExpand": {"enabled": True}}
IN_USE = seen(claim(), pods=(pod(),))
LONG_AGO = NOW - timedelta(hours=12)


def why(
    watch: Watch, observed: VolumeObserved, status: VolumeStatus | None = None, **spec: object
) -> str | None:
    desired = resolve(volume(spec), Settings())
    return noted(desired, observed, status or VolumeStatus(), watch, NOW).usage_unknown


def test_with_the_defaults_nobody_is_asked_and_the_volume_says_what_to_set() -> None:
    said = why(NOBODY, IN_USE, **GROWING)
    assert said is not None
    for word in ("thresholds and autoExpand do nothing", "KUBELET_CA", "volumes.readerSeconds"):
        assert word in said
    (row,) = rows(VolumeStatus(usage_unknown=said))
    assert (row[0], row[1], str(row[2]), row[3]) == ("UsageUnknown", True, "UsageUnknown", said)


def test_a_setting_alone_watches_nothing_without_what_it_needs() -> None:
    assert not watch_of(Settings(kubelet_ca="/ca.crt")).kubelets
    assert not watch_of(Settings(volume_reader_seconds=60)).readers
    both = watch_of(Settings(kubelet_ca="/ca.crt", kubelet_service_account="a"))
    assert (both.kubelets, both.readers) == (True, False)


def test_a_folder_of_the_nodes_disk_needs_a_reader() -> None:
    shared = replace(IN_USE, shared_disk=True)
    assert "VOLUME_READER_SECONDS" in str(why(KUBELETS, shared))
    assert why(READERS, shared) is None


@pytest.mark.parametrize(
    ("observed", "unknown"),
    [
        (replace(IN_USE, figures=figures(40, at=NOW - timedelta(minutes=9))), False),
        (replace(IN_USE, figures=figures(40, at=LONG_AGO), unwatched_since=LONG_AGO), True),
        (replace(IN_USE, unwatched_since=LONG_AGO), True),
        (replace(IN_USE, unwatched_since=NOW - timedelta(minutes=9)), False),
        (seen(claim(), unwatched_since=LONG_AGO), False),
        (seen(), False),
    ],
    ids=["fresh", "stale", "never told", "just started", "no pod uses it", "no claim"],
)
def test_only_figures_that_should_be_there_are_missed(observed: VolumeObserved, unknown: bool) -> None:
    said = why(KUBELETS, observed, VolumeStatus(stats_time=LONG_AGO))
    assert (said is not None) is unknown
    assert said is None or "no figures since 2026-11-21 00:00 UTC" in said


def test_a_restart_neither_takes_the_condition_back_nor_changes_its_words() -> None:
    told = VolumeStatus(usage_unknown="There are no figures.")
    just_started = replace(IN_USE, unwatched_since=NOW)
    assert why(KUBELETS, just_started, told) == "There are no figures."
    assert why(KUBELETS, replace(IN_USE, figures=figures(1)), told) is None
    assert rows(VolumeStatus(stats_time=NOW))[0][1] is False
    assert rows(VolumeStatus()) == []


def test_a_block_device_says_it_only_where_it_should_grow() -> None:
    device = replace(IN_USE, claim=claim(volume_mode="Block"))
    assert why(KUBELETS, device) is None
    assert "block device" in str(why(KUBELETS, device, **GROWING))


def test_the_book_knows_since_when_figures_are_missing() -> None:
    book, name = UsageBook(), ("lucid", "chunks")
    assert expected(IN_USE, KUBELETS, NOW)
    assert book.waits(name, NOW, missing=True) == NOW
    assert book.waits(name, NOW + timedelta(hours=1), missing=True) == NOW
    assert book.waits(name, NOW, missing=False) is None
    assert book.waits(name, LONG_AGO, missing=True) == LONG_AGO
    book.forget(name)
    assert book.waits(name, NOW, missing=True) == NOW
