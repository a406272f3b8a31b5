"""The process that forks operators."""

import subprocess
from pathlib import Path

import pytest

from testbed.errors import TestbedError
from testbed.operator_forks import Parent
from testbed.paths import Instance


def test_that_it_has_ended_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(instance: Instance) -> "subprocess.Popen[str]":
        process = subprocess.Popen(["true"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        process.wait()
        return process

    parent = Parent()
    monkeypatch.setattr(parent, "_start", ended)
    with pytest.raises(TestbedError, match="has ended"):
        parent.fork(Instance("forks", tmp_path), {}, tmp_path / "log")
    parent.close()
