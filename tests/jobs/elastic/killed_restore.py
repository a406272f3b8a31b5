"""A restore in a process of its own that is killed when its n-th request was answered; that is before the next one.

Arguments: a JSON file {url, run, record, data (path), at}. Prints how many requests there were when it ended.
"""

import io
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from lucid_storage.archive.manifest import ElasticRecord
from lucid_storage.jobs.elastic_restore import ElasticRestoreRun, restore
from lucid_storage.stores.elasticsearch.backup.http import Answer, ElasticHttp


def main(order: dict[str, Any]) -> None:
    lock = threading.Lock()
    sent = 0
    genuine = ElasticHttp._once

    def once(self: ElasticHttp, *args: Any) -> Answer:
        nonlocal sent
        with lock:
            sent += 1
            mine = sent == order["at"]
        answer = genuine(self, *args)
        if mine:
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
    print(sent)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
