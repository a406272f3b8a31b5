"""The surroundings of a look, all played by one object of a test."""

from typing import Any

from lucid_storage.kinds.metrics import Metrics
from lucid_storage.kinds.services import Services


def services(bed: Any, **more: Any) -> Services:
    """`bed` writes statuses, emits Events, holds finalizers and knows the namespaces; `more` is what differs."""
    given = {
        "status": bed,
        "events": bed,
        "finalizers": bed,
        "metrics": Metrics(),
        "namespace_terminating": getattr(bed, "namespace_terminating", None),
        "peers": lambda resource, target: [],
        "touch_dependents": lambda key, target: None,
        "remember": lambda resource, version: None,
    }
    return Services(**{**given, **more})
