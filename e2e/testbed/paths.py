"""Where the test bed keeps things: a cache shared by all runs, and one folder for each instance."""

import os
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import TestbedError


def project_root() -> Path:
    """The clone that this test bed belongs to."""
    return Path(__file__).resolve().parents[2]


def cache_dir() -> Path:
    """Built and fetched software, kept between runs: $LUCID_TESTBED_CACHE, or ~/.cache/lucid-testbed."""
    chosen = os.environ.get("LUCID_TESTBED_CACHE")
    folder = Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "lucid-testbed"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


@dataclass(frozen=True)
class Instance:
    """One running set of servers; everything it writes lies below `root`."""

    name: str
    root: Path

    @classmethod
    def named(cls, name: str) -> "Instance":
        """The instance of this clone in .testbed/<name>; raises TestbedError on an unfit name."""
        if not name or "/" in name or name.startswith("."):
            raise TestbedError(f"{name!r} cannot name a test bed: use letters, digits and dashes.")
        return cls(name, project_root() / ".testbed" / name)

    @property
    def run(self) -> Path:
        """Pid files, sockets and reserved ports."""
        return self._folder("run")

    @property
    def logs(self) -> Path:
        return self._folder("logs")

    @property
    def data(self) -> Path:
        return self._folder("data")

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder
