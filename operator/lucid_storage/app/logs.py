"""JSON logs on standard output, one object a line."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

_USUAL = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {
    "message",
    "asctime",
    "taskName",
}
_SIMPLE = (str, int, float, bool)


class JsonFormatter(logging.Formatter):
    """Fields given as `extra` become fields of the line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        extra = {k: v for k, v in record.__dict__.items() if k not in _USUAL and isinstance(v, _SIMPLE)}
        line.update(extra)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(level: str) -> None:
    """All logs of the process in one form; libraries speak from WARNING on."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    # Warnings of Python itself too, which would be bare text on the error output.
    logging.captureWarnings(True)
    logging.getLogger("lucid_storage").setLevel(level.upper())
    for noisy in ("elastic_transport", "kopf.objects"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
