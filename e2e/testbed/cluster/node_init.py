"""Process 1 of a node: arranges its file systems, then collects ended processes until it is killed.

Run by `unshare` in fresh mount, process, network and host name namespaces, with the folder of the
instance, the folder of the programs, and the name of the node. Kubernetes has fixed places below /run,
/var/lib and /var/log; here they lie in the folder of the instance, for the processes of the node alone.
Uses the standard library only, because it runs without the project's environment.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

INSTANCE = Path("/run/lucid/instance")
PROGRAMS = Path("/run/lucid/programs")


def main(root: Path, programs: Path, name: str) -> None:
    socket.sethostname(name)
    arrange(root, programs)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    Path("/run/lucid/ready").touch()
    # Shims of containers become children of process 1.
    while True:
        signal.sigwait({signal.SIGCHLD})
        reap()


def arrange(root: Path, programs: Path) -> None:
    """Mounts what the node needs. The order keeps an instance that lies below /run or /var/lib in reach."""
    staging = root / "run" / "node"
    staging.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(staging))
    for source, target in ((root, INSTANCE), (programs, PROGRAMS)):
        inside = staging / target.relative_to("/run")
        inside.mkdir(parents=True)
        mount("--bind", str(source), str(inside))
    mount("--rbind", str(staging), "/run")
    for source, place in ((INSTANCE / "data/node/lib", "/var/lib"), (INSTANCE / "logs/node", "/var/log")):
        source.mkdir(parents=True, exist_ok=True)
        mount("--bind", str(source), place)
    # The kubelet needs mounts that propagate to containers.
    mount("--make-rshared", "/")


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def reap() -> None:
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
