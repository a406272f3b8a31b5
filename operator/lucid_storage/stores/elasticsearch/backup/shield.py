"""A template of our own over the indices that one run stages, empty and of the highest priority.

It keeps the templates of others away: they would add fields, or aliases through which half of the data could be seen.
And it keeps the server from making such an index by itself, when documents come for one that another restore removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp
from lucid_storage.stores.elasticsearch.backup.marks import is_time
from lucid_storage.stores.elasticsearch.backup.names import MARK, SCRATCH_PREFIX, run_part
from lucid_storage.stores.mongodb.types import JsonValue

SHIELD_PRIORITY = 1 << 50
_NAMED_TARGETS = 100
_SHIELD_PREFIX = "lucid-restore-"
_WAIT = "30s"


def raise_shield(
    http: ElasticHttp, run: str, until: int, targets: Sequence[str], closed: Sequence[str] = ()
) -> None:
    """Before the first staged index of the run, whose names it also proves to be ours; and again before the run closes
    indices to writes, which are named there for whoever comes next. Raises LucidError.
    """
    part = run_part(run)
    body = {
        "index_patterns": [f"*-r-{part}", f"{SCRATCH_PREFIX}{part}_*"],
        # Two patterns that could match one name need different priorities, whatever their runs are called.
        "priority": SHIELD_PRIORITY + int.from_bytes(sha256(part.encode()).digest()[:6]),
        "template": {},
        "allow_auto_create": False,
        "_meta": {
            MARK: {
                "run": run,
                "until": until,
                "targets": list(targets)[:_NAMED_TARGETS],
                "closed": list(closed),
            }
        },
    }
    http.must("PUT", f"/_index_template/{_SHIELD_PREFIX}{part}", body, {"master_timeout": _WAIT})


def lower_shield(http: ElasticHttp, run: str) -> None:
    """After the last one. Absent is no error."""
    answer = http.ask("DELETE", f"/_index_template/{_SHIELD_PREFIX}{run_part(run)}")
    if not answer.ok and answer.status != 404:
        raise http.refused(answer)


def shields(http: ElasticHttp) -> dict[str, dict[str, JsonValue]]:
    """What is known of the runs whose shields stand, by their part in names."""
    answer = http.ask("GET", f"/_index_template/{_SHIELD_PREFIX}*")
    if answer.status == 404:
        return {}
    if not answer.ok:
        raise http.refused(answer)
    found: dict[str, dict[str, JsonValue]] = {}
    for entry in answer.json()["index_templates"]:
        made = (entry["index_template"].get("_meta") or {}).get(MARK)
        if isinstance(made, dict) and is_time(made.get("until")) and isinstance(made.get("run"), str):
            found[str(entry["name"]).removeprefix(_SHIELD_PREFIX)] = made
    return found
