"""A worker whose pace a test sets: `release` ends it, `fail` fails it, `verify` begins the check; while `away` is there
nothing can be removed, and while `lost` is there all that is known cannot be restored.

The files lie in the folder that LUCID_FAKE names; each run writes one `ran-<id>` there.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

folder = Path(os.environ["LUCID_FAKE"])
order = json.loads(os.environ["LUCID_ORDER"])
name, command = order["owner"]["name"], sys.argv[-1]
(folder / f"ran-{command}-{name}-{os.getpid()}").touch()
(folder / f"order-{command}-{name}").write_text(json.dumps({**order, "environment": sorted(os.environ)}))


def say(**line: object) -> None:
    print(json.dumps(line, separators=(",", ":")), flush=True)


def end(**result: object) -> None:
    said = {"run": order["run"], **result}
    Path(os.environ["LUCID_TERMINATION_PATH"]).write_text(json.dumps(said))
    say(result=said)
    raise SystemExit(0)


def stop(*_: object) -> None:
    (folder / f"stopped-{name}").touch()
    end(ok=False, reason="Cancelled", message="The worker was told to stop.")


signal.signal(signal.SIGTERM, stop)
if command == "prune":
    if (folder / "away").exists():
        end(ok=False, reason="DestinationUnavailable", message="The bucket does not answer.")
    retained = [{"id": i, "because": "newer backups need it"} for i in order["remove"]]
    kept = (folder / "retain").exists()
    told = order.get("unrestorable", [])
    lost = [i for i in order.get("known", []) if i not in told] if (folder / "lost").exists() else []
    end(
        ok=True,
        removed=[] if kept else order["remove"],
        retained=retained if kept else [],
        unrestorable=lost,
    )
if (folder / f"unbased-{name}").exists() and not order["mayDump"]:
    end(ok=False, reason="Queued", type="full", message="There is no full backup yet.")
done = 0
while not (folder / f"release-{name}").exists():
    if (folder / f"crash-{name}").exists():
        os._exit(137)
    done = min(done + 1, 40)
    phase = "Verifying" if (folder / f"verify-{name}").exists() else "Running"
    say(progress={"phase": phase, "doneBytes": done, "totalBytes": 100})
    time.sleep(0.05)
if (folder / f"fail-{name}").exists():
    end(ok=False, reason="OplogGap", message="The oplog does not reach back; take a full backup.")
now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
engine = {
    "engine": "mongodb",
    "ok": True,
    "documents": 7,
    "sizeBytes": 2048,
    "storedBytes": 1024,
    "takenAt": now,
}
end(
    ok=True,
    id=order["id"],
    type=order["type"],
    timeline="t-1",
    to=now,
    engines=[engine],
    manifestSha256="ab" * 32,
    verified=order["verify"],
    verifiedAt=now,
    verifySeconds=1,
    completedAt=now,
)
