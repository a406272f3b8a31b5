"""Workers as a Job runs them: a process of their own with an order, on real servers and a real destination."""

import io
import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.keys import Keyring
from lucid_storage.archive.layout import ChainFolder
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.records import list_backups, list_slices
from lucid_storage.jobs.backup import back_up
from lucid_storage.jobs.prune import prune
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.worker import Stop
from lucid_storage.models.orders import BackupOrder, BackupResult, Destination, Owner
from lucid_storage.models.pruning import PruneOrder

CLUSTER = "00000000-0000-4000-8000-000000000001"


@dataclass
class Workshop:
    """A destination folder, a key, and the logins of the environment."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)
    chain: str = "manual"
    encrypted: bool = True

    @property
    def destination(self) -> Path:
        return self.folder / "destination"

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    def order(self, name: str, engines: list[str], **more: Any) -> dict[str, Any]:
        return {
            "run": uuid.uuid4().hex[:12],
            "id": str(uuid.uuid4()),
            "owner": {
                "cluster": CLUSTER,
                "namespace": "n",
                "name": name,
                "uid": "u",
                "specHash": f"hash-{name}",
            },
            "destination": {"root": "r"},
            "chain": self.chain,
            "keyId": "k1" if self.encrypted else None,
            "deadlineSeconds": 120,
            "type": "full",
            "engines": engines,
            **more,
        }

    def here(self) -> dict[str, str]:
        """The environment of a worker that runs in the test's own process."""
        return {**self.environ, "LUCID_KEYS": str(self.keys), "LUCID_DESTINATION": str(self.destination)}

    def start(self, command: str, order: dict[str, Any]) -> "subprocess.Popen[str]":
        environ = {
            **os.environ,
            **self.here(),
            "LUCID_ORDER": json.dumps(order),
            "LUCID_TERMINATION_PATH": str(self.termination(order)),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "lucid_storage", command],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def termination(self, order: dict[str, Any]) -> Path:
        return self.folder / f"termination-{order['run']}"

    def made(self, name: str, database: str, **more: Any) -> BackupResult:
        """A backup of one database of MongoDB, in the test's own process."""
        order = BackupOrder.model_validate(self.order(name, ["mongodb"], **only(database)) | more)
        return back_up(order, self.here(), Reporter(out=io.StringIO()), Stop())

    def swept(self, ordered_at: datetime | None = None) -> set[str]:
        """What a sweep leaves of the chain."""
        order = PruneOrder(
            run="sweep",
            owner=Owner(cluster=CLUSTER, namespace="n", name="s", uid="u", spec_hash=""),
            destination=Destination(root="r"),
            chain=self.chain,
            key_id="k1",
            deadline_seconds=60,
            sweep=True,
            ordered_at=ordered_at,
        )
        result = prune(order, self.here(), Reporter(out=io.StringIO()), Stop())
        assert result.ok, result.message
        return {record.id for record in self.records()}

    def back_up(self, name: str, engines: list[str], **more: Any) -> BackupResult:
        """Runs a backup to its end."""
        order = self.order(name, engines, **more)
        return self.result(self.start("backup", order), order)

    def result(self, process: "subprocess.Popen[str]", order: dict[str, Any]) -> BackupResult:
        out, err = process.communicate(timeout=150)
        assert process.returncode == 0, err
        told = BackupResult.model_validate_json(self.termination(order).read_text())
        assert json.loads(out.splitlines()[-1]).keys() == {"result"}
        return told

    def records(self) -> list[Recorded]:
        store, folder = FolderStore(self.destination), ChainFolder("r", CLUSTER, "n", self.chain)
        keyring = Keyring(self.keys)
        return [*list_backups(store, folder, keyring).records, *list_slices(store, folder, keyring).records]

    def files(self) -> list[str]:
        return sorted(
            str(p.relative_to(self.destination)) for p in self.destination.rglob("*") if p.is_file()
        )


def only(database: str) -> dict[str, Any]:
    """What an order says that is about one database of MongoDB."""
    return {"mongodb": {"databases": [database]}}
