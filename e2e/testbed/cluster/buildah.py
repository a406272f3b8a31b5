"""buildah with a store of its own in the cache."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from testbed import apt
from testbed.cluster import overlay
from testbed.errors import TestbedError
from testbed.paths import cache_dir
from testbed.progress import Progress

_PULL_SECONDS = 300
_IMAGES_KEPT = 250  # about 25 builds, or 8 GB


class Buildah:
    """Needs root. No engine runs; every call works on the store below the cache."""

    def __init__(self, progress: Progress) -> None:
        """Raises TestbedError without root, or when buildah cannot be installed."""
        if os.geteuid() != 0:
            raise TestbedError(
                "Building an image here needs root; use CLUSTER=kind, which builds with Docker."
            )
        if shutil.which("buildah") is None:
            apt.ensure(["buildah"], progress)
        store = cache_dir() / "buildah"
        store.mkdir(exist_ok=True)
        # vfs copies every layer, but works on any file system.
        driver = "overlay" if overlay.usable(store) else "vfs"
        self._command = ["buildah", f"--storage-driver={driver}", f"--root={store / driver}"]
        self._command.append(f"--runroot={store / f'{driver}.run'}")
        self.lock_file = store / "lock"
        # Else buildah would make folders for networks, which it never uses here, in /etc.
        settings = store / "containers.conf"
        settings.write_text(f'[network]\nnetwork_config_dir = "{store / "networks"}"\n')
        self._environment = {**os.environ, "CONTAINERS_CONF": str(settings)}

    def image_id(self, name: str) -> str | None:
        """None when the store has no such image."""
        answer = self._try("inspect", "--type=image", "--format={{.FromImageID}}", name)
        return answer.stdout.strip() if answer.returncode == 0 else None

    def label(self, name: str, label: str) -> str:
        """Empty when the image does not carry the label."""
        template = f'--format={{{{index .OCIv1.Config.Labels "{label}"}}}}'
        return self._run("inspect", "--type=image", template, name).strip()

    def pull(self, name: str) -> bool:
        """Whether the image could be had from its registry."""
        try:
            return self._try("pull", "--quiet", name, timeout=_PULL_SECONDS).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def import_root(
        self,
        root: Path,
        name: str,
        environment: Mapping[str, str],
        labels: Mapping[str, str],
        command: Sequence[str],
    ) -> None:
        """An image of one layer from a tar file."""
        container = self._run("from", "scratch").strip()
        try:
            self._run("add", "--quiet", container, str(root), "/")
            variables = [f"--env={key}={value}" for key, value in environment.items()]
            marks = [f"--label={key}={value}" for key, value in labels.items()]
            self._run("config", *variables, *marks, f"--cmd={json.dumps(list(command))}", container)
            self._run("commit", "--quiet", container, name)
        finally:
            self._run("rm", container)

    def build(self, dockerfile: Path, context: Path, tag: str, mounts: Mapping[Path, str]) -> None:
        """Builds with cached layers; `mounts` are files of this machine that RUN sees, read only.

        Raises TestbedError with the end of the output.
        """
        volumes = [f"--volume={source}:{place}:ro" for source, place in mounts.items()]
        # Without an engine or a user session only chroot isolation works everywhere.
        isolation = ["--isolation=chroot", "--network=host"]
        what = [f"--file={dockerfile}", f"--tag={tag}", str(context)]
        self._run("build", "--layers", "--pull-never", "--format=docker", *isolation, *volumes, *what)

    def export(self, tag: str, target: Path) -> None:
        """Writes the image in the form of `docker save`."""
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            self._run("push", "--quiet", tag, f"docker-archive:{draft}:{tag}")
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)

    def prune(self) -> None:
        """Removes unnamed images, which are the cached layers too, once there are very many of them.

        Only to be called by the holder of the lock: it also removes containers that broken builds left.
        """
        if len(self._run("images", "--all", "--quiet").split()) > _IMAGES_KEPT:
            self._run("rm", "--all")
            self._run("rmi", "--prune")

    def _run(self, *arguments: str) -> str:
        answer = self._try(*arguments)
        if answer.returncode != 0:
            tail = "\n".join((answer.stdout + answer.stderr).splitlines()[-30:])
            raise TestbedError(f"buildah {arguments[0]} failed:\n{tail}")
        return answer.stdout

    def _try(self, *arguments: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        command = ["nice", *self._command, *arguments]
        return subprocess.run(
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
