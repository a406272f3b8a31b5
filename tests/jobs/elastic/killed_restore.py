"""Restores in processes of their own, each killed when its n-th change was answered; that is before the next one.

Requests that only read are not counted: after one of them the server is as it was before. One line of JSON {url, run,
record, data (path), at} in, one line {signal, changes} out: the signal that ended it, 0 for none, and how many changes
there were. Each is a fork of this process, which has imported all and has one thread.
"""

import io
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from lucid_storage.archive.manifest import ElasticRecord
from lucid_storage.jobs.elastic_restore import ElasticRestoreRun, restore
from lucid_storage.stores.elasticsearch.backup.http import Answer, ElasticHttp

READING = ("/_refresh", "/_search", "/_pit")


def killed(order: dict[str, Any]) -> int:
    """Changes of a restore that was not killed."""
    lock = threading.Lock()
    answered = 0
    genuine = ElasticHttp._once

    def once(self: ElasticHttp, method: str, target: str, *rest: Any) -> Answer:
        nonlocal answered
        answer = genuine(self, method, target, *rest)
        if method not in ("GET", "HEAD") and not target.partition("?")[0].endswith(READING):
            with lock:
                answered += 1
                if answered == order["at"]:
                    os.kill(os.getpid(), signal.SIGKILL)
        return answer

    ElasticHttp._once = once  # type: ignore[method-assign]
    data = Path(order["data"]).read_bytes()
    restore(
        ElasticRestoreRun(
            run=order["run"],
            url=order["url"],
            record=ElasticRecord.model_validate(order["record"]),
            open_source=lambda: io.BytesIO(data),
            deadline_seconds=600,
            drop_existing=True,
        )
    )
    return answered


def apart(order: dict[str, Any]) -> dict[str, int]:
    """The same in a fork."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(killed(order)).encode())
        except BaseException:  # noqa: BLE001 - a fork that goes on would read the next order
            traceback.print_exc()
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader) as said:
        return {"signal": os.WTERMSIG(status), "changes": int(said.read() or 0)}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(apart(json.loads(line))), flush=True)
