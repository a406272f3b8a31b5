"""`lucid-storage <command>`: one entry point for the operator and for what runs in Jobs or at a prompt.

Commands are imported when they are run, so that each process pays only for what it uses.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from lucid_storage.app.archive_options import add_catalog_options, add_verify_options

SWITCH_SECONDS = 0.0002
"""Python's own is 0.005. The threads of a worker that pack and send let the interpreter go in each call into C, and
wait so long to get it back from those that count: a full backup takes 8 % less (docs/performance.md).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="lucid-storage", description="The Lucid Storage Operator.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("operator", help="run the operator with the REST API in the same process")
    crds = commands.add_parser("crds", help="print the CustomResourceDefinitions as YAML")
    crds.set_defaults(command="crds")
    export = commands.add_parser("export", help="write the resources that describe a live database")
    export.add_argument("--database", required=True, help="database to describe")
    export.add_argument("--output", required=True, help="directory for the files")
    export.add_argument(
        "--namespace", default=None, help="namespace to write into the resources (default: none)"
    )
    export.add_argument(
        "--elasticsearch", action="store_true", help="describe Elasticsearch index series too"
    )
    catalog = commands.add_parser("catalog", help="list what lies in a bucket or folder, with its keys alone")
    add_catalog_options(catalog)
    workers = {
        name: commands.add_parser(name, help=f"{said}; run by a Job, with its order in LUCID_ORDER")
        for name, said in _WORKERS.items()
    }
    add_verify_options(workers["verify"])
    given = parser.parse_args(arguments)
    return _COMMANDS[given.command](given)


def _operator(_: argparse.Namespace) -> int:
    # The first process of a container gets no signal that it has no handler for, and the imports take seconds.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    from lucid_storage.app.logs import configure
    from lucid_storage.app.operator import run_operator
    from lucid_storage.models.settings import Settings, SettingsError

    try:
        settings = Settings.read(os.environ)
    except SettingsError as error:
        print(f"lucid-storage: a setting cannot be used: {error}", file=sys.stderr)
        return 2
    configure(settings.log_level)
    return _end(run_operator(settings))


def _crds(_: argparse.Namespace) -> int:
    from lucid_storage.models.crds import crds_yaml

    sys.stdout.write(crds_yaml())
    return 0


def _export(given: argparse.Namespace) -> int:
    from lucid_storage.app.export import run_export

    return run_export(given.database, given.output, given.namespace, elasticsearch=given.elasticsearch)


def _catalog(given: argparse.Namespace) -> int:
    from lucid_storage.app.catalog import run_catalog

    return run_catalog(given)


def _verify(given: argparse.Namespace) -> int:
    if given.subject == "volume":
        from lucid_storage.app.verify_volume import run_verify_volume

        return run_verify_volume(given)
    if given.id is None:
        return _work(given)
    from lucid_storage.app.verify import run_verify

    return run_verify(given)


def _work(given: argparse.Namespace) -> NoReturn:
    """Runs a worker, and ends the process once its result was told."""
    from importlib import import_module

    name = {"slice": "slicer"}.get(given.command, given.command.replace("-", "_"))
    # What is imported stays, so the collector looks at it in vain: 7 % of a start (https://docs.python.org/3/library/gc.html#gc.freeze).
    gc.disable()
    module = import_module(f"lucid_storage.jobs.{name}")
    gc.freeze()
    gc.enable()
    sys.setswitchinterval(SWITCH_SECONDS)
    _end(module.run())


def _end(status: int) -> NoReturn:
    """Ends the process, of which nothing is left to do.

    At a usual end the interpreter waits for every thread, and PyMongo until its monitors wake, which takes half a
    second (pymongo.periodic_executor, `_shutdown_executors`).
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


_WORKERS = {
    "backup": "make one backup",
    "restore": "carry out one restore",
    "verify": "prove one backup again",
    "prune": "remove backups that nothing needs any more",
    "slice": "write slices of the oplog until stopped",
    "volume-usage": "say how much of a claim is in use",
    "volume-verify": "compare a claim's content with its last checksums",
    "volume-copy": "copy a claim's files to another claim and compare both",
}
_COMMANDS = {
    **dict.fromkeys(_WORKERS, _work),
    "verify": _verify,
    "catalog": _catalog,
    "export": _export,
    "crds": _crds,
    "operator": _operator,
}

if __name__ == "__main__":
    sys.exit(main())
