"""Programs that Go builds from the modules in gotools/, kept in the cache.

The folder of a program in the cache carries a hash of all that its build depends on, so that a change of
a version in go.mod builds anew, and older clones keep theirs.
"""

import hashlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from testbed.cluster.locks import exclusive
from testbed.errors import TestbedError
from testbed.paths import cache_dir
from testbed.progress import Progress

_MODULES = Path(__file__).resolve().parents[1] / "gotools"
_COMPONENT_VERSION = "k8s.io/component-base/version"


@dataclass(frozen=True)
class Program:
    """A Go package and the module of gotools/ that names its version."""

    name: str
    module: str
    package: str
    tags: str = ""
    """Build tags of Go, by which parts are left out."""

    def path(self) -> Path:
        """Where the built program lies, whether it is there or not."""
        return cache_dir() / "bin" / f"{self.module}-{self._fingerprint()}" / self.name

    def link_flags(self) -> str:
        """Without the version flags, Kubernetes says v0.0.0 and refuses versions of its peers."""
        flags = ["-s", "-w"]
        if self.module == "kubernetes" and self.name != "etcd":
            version = self.version("k8s.io/kubernetes")
            major, minor, _ = version.lstrip("v").split(".")
            values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
            flags += [f"-X {_COMPONENT_VERSION}.{key}={value}" for key, value in values.items()]
        if self.name == "helm":
            flags.append(f"-X helm.sh/helm/v3/internal/version.version={self.version('helm.sh/helm/v3')}")
        return " ".join(flags)

    def version(self, required: str) -> str:
        """The version of a required module; raises TestbedError when go.mod does not name it."""
        for line in (self.folder / "go.mod").read_text().splitlines():
            words = line.removeprefix("require").split()
            if len(words) >= 2 and words[0] == required and words[1].startswith("v"):
                return words[1]
        raise TestbedError(f"{self.folder / 'go.mod'} names no version of {required}; add it.")

    @property
    def folder(self) -> Path:
        return _MODULES / self.module

    def _fingerprint(self) -> str:
        digest = hashlib.sha256((self.link_flags() + self.tags).encode())
        for path in sorted(self.folder.iterdir()):
            if path.name in {"go.mod", "go.sum"} or path.suffix == ".go":
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()[:12]


def _kubernetes(name: str) -> Program:
    return Program(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}")


def _csi(name: str, module: str) -> Program:
    return Program(name, "storage", f"github.com/kubernetes-csi/{module}/cmd/{name}")


PROGRAMS = {
    program.name: program
    for program in (
        Program("etcd", "kubernetes", "go.etcd.io/etcd/server/v3"),
        _kubernetes("kube-apiserver"),
        _kubernetes("kube-controller-manager"),
        _kubernetes("kube-scheduler"),
        _kubernetes("kubelet"),
        _kubernetes("kube-proxy"),
        _kubernetes("kubectl"),
        Program("coredns", "coredns", "."),
        Program("pause", "pause", "."),
        Program("helm", "helm", "helm.sh/helm/v3/cmd/helm"),
        Program("kind", "kind", "sigs.k8s.io/kind"),
        Program("local-path-provisioner", "storage", "github.com/rancher/local-path-provisioner"),
        _csi("csi-attacher", "external-attacher/v4"),
        _csi("csi-resizer", "external-resizer/v2"),
        _csi("csi-snapshotter", "external-snapshotter/v8"),
        _csi("snapshot-controller", "external-snapshotter/v8"),
        Program("csi-loop", "csi-loop", "."),
        # Discovery in a dozen clouds would take as long again; rules need none.
        Program("promtool", "promtool", "github.com/prometheus/prometheus/cmd/promtool", "remove_all_sd"),
    )
}
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
NODE = ("kubelet", "kube-proxy", "coredns", "pause")
STORAGE = (
    "local-path-provisioner",
    "csi-attacher",
    "csi-resizer",
    "csi-snapshotter",
    "snapshot-controller",
    "csi-loop",
)
_SNAPSHOT_CLIENT = "github.com/kubernetes-csi/external-snapshotter/client/v8"


def ensure(names: Iterable[str], progress: Progress) -> dict[str, Path]:
    """Builds what is missing and says where each program is.

    Raises TestbedError when Go is missing or a build fails, and KeyError for a name not in PROGRAMS.
    """
    wanted = [PROGRAMS[name] for name in names]
    for program in wanted:
        if not program.path().exists():
            _build(program, progress)
    return {program.name: program.path() for program in wanted}


def snapshot_definitions(progress: Progress) -> Path:
    """A folder with the CRDs of volume snapshots, from the module whose controllers are built here."""
    program = PROGRAMS["csi-snapshotter"]
    folder = program.path().with_name("snapshot-crds")
    with exclusive(_lock_file(program), "build with Go", progress):
        if not folder.exists():
            command = ["go", "mod", "download", "-json", _SNAPSHOT_CLIENT]
            answer = subprocess.run(
                command,
                cwd=program.folder,
                env={**os.environ, "GOWORK": "off"},
                capture_output=True,
                check=False,
            )
            if answer.returncode != 0:
                raise TestbedError(f"Go could not fetch {_SNAPSHOT_CLIENT}; is the Go proxy reachable?")
            source = Path(json.loads(answer.stdout)["Dir"]) / "config" / "crd"
            draft = folder.with_name(f".{folder.name}.{os.getpid()}")
            shutil.copytree(source, draft)
            draft.rename(folder)
    return folder


def link(programs: dict[str, Path], folder: Path) -> None:
    """Symbolic links to the programs in one folder, for a PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in programs.items():
        draft = folder / f".{name}.{os.getpid()}.{threading.get_ident()}"
        draft.symlink_to(target)
        draft.replace(folder / name)


def _lock_file(program: Program) -> Path:
    return cache_dir() / "bin" / f"{program.module}.lock"


def _build(program: Program, progress: Progress) -> None:
    if shutil.which("go") is None:
        raise TestbedError(f"Go builds {program.name}, and is missing; put Go 1.26 or newer on PATH.")
    target = program.path()
    target.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(_lock_file(program), "build with Go", progress):
        if target.exists():
            return
        draft = target.with_name(f".{program.name}.{os.getpid()}")
        command = ["nice", "go", "build", f"-ldflags={program.link_flags()}", f"-tags={program.tags}"]
        # No GOFLAGS and no workspace of the person who builds may change what is built.
        settings = {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly -buildvcs=false"}
        with progress.step(f"Building {program.name} with Go"):
            answer = subprocess.run(
                [*command, "-o", str(draft), program.package],
                cwd=program.folder,
                env={**os.environ, **settings},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if answer.returncode != 0:
                draft.unlink(missing_ok=True)
                tail = "\n".join(answer.stdout.splitlines()[-15:])
                raise TestbedError(f"Go could not build {program.name}; is the Go proxy reachable?\n{tail}")
            draft.replace(target)
