"""A real S3 server on a folder: versitygw, built by Go into the cache."""

import urllib.error
import urllib.request
from pathlib import Path

from testbed import ports, software
from testbed.paths import Instance
from testbed.process import Daemon
from testbed.progress import Progress, Silent
from testbed.stores.one_process import OneProcess
from testbed.stores.password import drawn

_VERSION = "v1.8.0"
_MODULE = f"github.com/versity/versitygw/cmd/versitygw@{_VERSION}"
_LOOPBACK = "127.0.0.1"


def ensure(progress: Progress) -> Path:
    return software.once(f"versitygw-{_VERSION}", lambda folder: _build(folder, progress)) / "versitygw"


class S3(OneProcess):
    """A server that keeps buckets as folders of the instance; its keys are drawn once and kept there."""

    region = "us-east-1"

    def __init__(
        self,
        instance: Instance,
        name: str = "s3",
        *,
        host: str = _LOOPBACK,
        progress: Progress | None = None,
    ) -> None:
        self.instance = instance
        self.name = name
        self.host = host
        self.port = ports.reserve(instance, name)
        self.folder = instance.data / name
        self.access_key = "lucid"
        self.secret_key = drawn(self.folder / "secret-key")
        self._progress = progress or Silent()
        self._server: Daemon | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def make_bucket(self, name: str) -> None:
        """Harmless when it is there."""
        (self.folder / "buckets" / name).mkdir(parents=True, exist_ok=True)

    @property
    def daemon(self) -> Daemon:
        """The process of the server; raises TestbedError when it cannot be built."""
        if self._server is None:
            buckets = self.folder / "buckets"
            # Not every file system has the extended attributes that versitygw would keep metadata in.
            metadata = self.folder / "metadata"
            for folder in (buckets, metadata):
                folder.mkdir(parents=True, exist_ok=True)
            self._server = Daemon(
                self.instance,
                self.name,
                [
                    ensure(self._progress),
                    "--port",
                    f"{self.host}:{self.port}",
                    "posix",
                    "--sidecar",
                    metadata,
                    buckets,
                ],
                env={"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key},
                ready=self._answers,
            )
        return self._server

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=2):
                return True
        except urllib.error.HTTPError as refused:  # without a signature S3 refuses, which is an answer
            refused.close()
            return True
        except OSError:
            return False


def _build(folder: Path, progress: Progress) -> None:
    install = ["env", f"GOBIN={folder}", "GOFLAGS=-p=2", "nice", "go", "install", _MODULE]
    with progress.step(f"Building versitygw {_VERSION}"):
        software.run([*install], "versitygw is built by Go; put Go 1.24 or later on PATH.")
