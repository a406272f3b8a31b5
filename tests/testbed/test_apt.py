"""Packages are installed with their services off, and nothing of that outlives the installation."""

import fcntl
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import apt
from testbed.paths import cache_dir, project_root
from testbed.process import wait_until
from testbed.progress import Silent

THERE = ["dpkg"]
"""Installed on every Debian."""
ABSENT = ["lucid-testbed-has-no-such-package"]

APT_GET = textwrap.dedent("""\
    #!/bin/sh
    # Shows the policy that it has, waits if told to, and fails.
    cp {policy} {folder}/seen 2>/dev/null
    touch {folder}/runs
    while [ -e {folder}/wait ]; do sleep 0.05; done
    exit 1
""")
INSTALL = textwrap.dedent("""
    from pathlib import Path
    from testbed import apt
    from testbed.progress import Silent
    apt._POLICY = Path({policy!r})
    apt.ensure({packages!r}, Silent())
""")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root installs packages")


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the policy is kept in this test, with a cache and an apt-get of its own."""
    made = tmp_path / "policy-rc.d"
    monkeypatch.setattr(apt, "_POLICY", made)
    monkeypatch.setenv("LUCID_TESTBED_CACHE", str(tmp_path / "cache"))
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "apt-get").write_text(APT_GET.format(policy=made, folder=tmp_path))
    (programs / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return made


@pytest.fixture
def killed(policy: Path, tmp_path: Path) -> Iterator[None]:
    """An installation that was killed in the middle; its apt-get still runs."""
    (tmp_path / "wait").touch()
    code = INSTALL.format(policy=str(policy), packages=ABSENT)
    environment = {**os.environ, "PYTHONPATH": str(project_root() / "e2e")}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    wait_until((tmp_path / "runs").exists, 20, "apt-get")
    process.kill()
    process.wait()
    yield
    (tmp_path / "wait").unlink(missing_ok=True)


def test_services_are_off_during_an_installation_and_not_after_it(policy: Path, tmp_path: Path) -> None:
    with pytest.raises(apt.TestbedError, match="apt-get"):
        apt.ensure(ABSENT, Silent())
    assert "exit 101" in (tmp_path / "seen").read_text()
    assert not policy.exists()


@pytest.mark.parametrize("packages", [THERE, ABSENT], ids=["nothing is missing", "a package is missing"])
def test_what_a_killed_installation_left_is_gone_after_the_next_start(
    policy: Path, killed: None, tmp_path: Path, packages: list[str]
) -> None:
    assert "exit 101" in policy.read_text()
    apt.ensure(THERE, Silent())
    assert policy.exists(), "its apt-get is still at work"
    (tmp_path / "wait").unlink()
    wait_for_the_lock()
    if packages == THERE:
        apt.ensure(packages, Silent())
    else:
        with pytest.raises(apt.TestbedError, match="apt-get"):
            apt.ensure(packages, Silent())
    assert not policy.exists()


def test_a_policy_of_somebody_else_is_used_and_kept(policy: Path, tmp_path: Path) -> None:
    policy.write_text("#!/bin/sh\nexit 101\n")
    apt.ensure(THERE, Silent())
    with pytest.raises(apt.TestbedError, match="apt-get"):
        apt.ensure(ABSENT, Silent())
    assert (tmp_path / "seen").read_text() == policy.read_text() == "#!/bin/sh\nexit 101\n"


def wait_for_the_lock() -> None:
    """It goes with the apt-get that has it."""
    with (cache_dir() / "apt.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
