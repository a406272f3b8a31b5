"""The command of the test bed: up, down, status, env and fetch."""

import argparse
import sys
from collections.abc import Sequence

from testbed.bed import DEFAULT_NAME, Bed, Mode
from testbed.errors import TestbedError
from testbed.paths import Instance
from testbed.progress import Progress
from testbed.stores import elasticsearch, mongod, redis, s3


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    progress = Progress()
    try:
        if options.command == "fetch":
            _fetch(progress, stores_only=options.stores_only, image=options.image)
            return 0
        return _run(options, Bed(Instance.named(options.name), progress))
    except TestbedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; `down` stops what was started so far.", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace, bed: Bed) -> int:
    match options.command:
        case "up":
            return _up(options, bed)
        case "down":
            stopped = bed.down(purge=options.purge)
            print(f"The test bed {bed.instance.name} {'is stopped' if stopped else 'did not run'}.")
            return 0
        case "status":
            return _status(bed)
        case _:
            if not bed.env_file.exists():
                raise TestbedError(f"The test bed {bed.instance.name} was never up; start it with `up`.")
            print(bed.env_file.read_text(), end="")
            return 0


def _up(options: argparse.Namespace, bed: Bed) -> int:
    mode: Mode | None = (
        None if options.stores_only else "control-plane" if options.control_plane_only else "node"
    )
    started = bed.up(mode, stores=not options.control_plane_only, sharded=options.sharded)
    print(f"The test bed {bed.instance.name} is up{'' if started else ' already'}: source {bed.env_file}")
    return 0


def _status(bed: Bed) -> int:
    """0 when all that was started runs, 3 otherwise, as service managers do."""
    parts = bed.status()
    if not parts:
        print(f"The test bed {bed.instance.name} was never up.")
    for what, running in parts:
        print(f"{what:32} {'running' if running else 'stopped'}")
    return 0 if parts and all(running for _, running in parts) else 3


def _fetch(progress: Progress, *, stores_only: bool, image: bool) -> None:
    mongod.ensure(progress)
    redis.ensure(progress)
    elasticsearch.ensure(elasticsearch.DEFAULT_VERSION, progress)
    if stores_only:
        return
    elasticsearch.ensure(elasticsearch.OLDEST_VERSION, progress)
    s3.ensure(progress)
    from testbed.cluster import prepare  # noqa: PLC0415 - not needed for the stores alone

    prepare.prepare(progress)
    if image:
        prepare.project_image(progress)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m testbed", description="A real Kubernetes and real stores on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default=DEFAULT_NAME, help="one of several test beds (default: %(default)s)")
    up = commands.add_parser(
        "up", parents=[named], help="start what is missing; CLUSTER=own, kind or current"
    )
    part = up.add_mutually_exclusive_group()
    part.add_argument("--stores-only", action="store_true", help="no Kubernetes")
    part.add_argument(
        "--control-plane-only", action="store_true", help="Kubernetes without a node, no stores"
    )
    up.add_argument("--sharded", action="store_true", help="a sharded MongoDB too (MONGODB_ROUTER_URI)")
    down = commands.add_parser("down", parents=[named], help="stop everything; data stay")
    down.add_argument("--purge", action="store_true", help="remove the data too")
    commands.add_parser("status", parents=[named], help="what runs; exit code 3 when something does not")
    commands.add_parser("env", parents=[named], help="print the variables that a shell sources, with logins")
    fetch = commands.add_parser("fetch", help="bring all software into the cache, so that tests need not")
    fetch.add_argument("--stores-only", action="store_true")
    fetch.add_argument("--image", action="store_true", help="build the image that tests on a node use, too")
    return parser
