"""Putting documents into an index that nobody else writes to, with their ids, versions and routing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any
from urllib.parse import quote

from lucid_storage.errors import LucidError, Reason, StoreUnavailableError
from lucid_storage.stores.elasticsearch.answers import kind_and_sentence, refusal
from lucid_storage.stores.elasticsearch.backup.hits import Hit
from lucid_storage.stores.elasticsearch.backup.http import BUSY, Answer, ElasticHttp, encoded
from lucid_storage.stores.elasticsearch.backup.staging import lost

PATIENCE_SECONDS = 300.0
"""For how long an overloaded server is waited for without a single document taken."""
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
_INVALID, _DENIED, _TOO_LARGE = 400, 403, 413
_FIELD = re.compile(r"(?:field|introduction of) \[([^\]]{1,100})\]")


class Loader:
    """Writes to one index. A batch that is sent again changes nothing: versions are those of the backup.

    Raises LucidError for what the server will not take, StoreUnavailableError when it stays overloaded.
    """

    def __init__(self, http: ElasticHttp, index: str) -> None:
        self._http = http
        self._index = index
        self._path = f"/{encoded(index)}"
        self.rejections = 0
        """How often the server asked to wait."""

    def load(self, hits: Sequence[Hit]) -> None:
        """Returns when the server confirmed all of them."""
        # The lines of a bulk request end with a line feed, so a source that has one goes alone.
        together: list[Hit] = []
        for hit in hits:
            if b"\n" in hit[5] or hit[5].endswith(b"\r"):
                self._one(hit)
            else:
                together.append(hit)
        if together:
            self._many(together)

    def _many(self, hits: list[Hit]) -> None:
        tries, since = 0, monotonic()
        waiting = [hits]
        while waiting:
            batch = waiting.pop()
            answer = self._http.ask(
                "POST",
                f"{self._path}/_bulk",
                b"".join(line for hit in batch for line in (_action(hit), hit[5], b"\n")),
                {"filter_path": "errors,items.*.status,items.*.error"},
                busy_is_answer=True,
                content_type="application/x-ndjson",
            )
            left = self._left(batch, answer)
            if len(left) < len(batch):
                tries, since = 0, monotonic()
            if not left:
                continue
            if len(left) > 1 and (tries > 1 or answer.status == _TOO_LARGE):
                middle = len(left) // 2
                waiting += [left[middle:], left[:middle]]
            else:
                waiting.append(left)
            if answer.status != _TOO_LARGE:
                self._wait(tries, since)
                tries += 1

    def _left(self, batch: list[Hit], answer: Answer) -> list[Hit]:
        """What has to be sent again. Raises LucidError for a document that the server refuses for good."""
        if answer.status == BUSY or (answer.status == _TOO_LARGE and len(batch) > 1):
            return batch
        if not answer.ok:
            raise self._http.refused(answer)
        body = answer.json()
        if not body.get("errors"):
            return []
        left: list[Hit] = []
        for hit, item in zip(batch, body["items"], strict=True):
            (outcome,) = item.values()
            if outcome["status"] == BUSY:
                left.append(hit)
            elif "error" in outcome:
                raise self._refused(outcome)
        return left

    def _one(self, hit: Hit) -> None:
        identifier, routing, version, _, _, source = hit
        parameters: dict[str, str | int | bool] = {"version": version, "version_type": "external_gte"}
        if routing is not None:
            parameters["routing"] = routing.decode("utf-8", "surrogatepass")
        tries, since = 0, monotonic()
        while True:
            path = f"{self._path}/_doc/{quote(identifier, safe='')}"
            answer = self._http.ask("PUT", path, source, parameters, busy_is_answer=True)
            if answer.ok:
                return
            if answer.status != BUSY:
                raise self._refused({"status": answer.status, "error": (answer.json() or {}).get("error")})
            self._wait(tries, since)
            tries += 1

    def _wait(self, tries: int, since: float) -> None:
        self.rejections += 1
        if monotonic() - since >= PATIENCE_SECONDS:
            raise StoreUnavailableError(
                f"{self._http.subject} has been too busy to take documents for {PATIENCE_SECONDS:.0f} s; "
                "restore again when it has less to do."
            )
        self._http.pause(_PAUSES[min(tries, len(_PAUSES) - 1)])

    def _refused(self, outcome: Mapping[str, Any]) -> LucidError:
        """Type and field only: the server's sentence may hold the document's value."""
        status, kind = int(outcome["status"]), kind_and_sentence(outcome)[0] or "no reason given"
        if kind == "index_not_found_exception":  # it is never made anew: the shield forbids it
            return lost(self._http, self._index)
        if (
            status == _DENIED or status >= 500
        ):  # a block, a right, a shard: of the server and not of the document
            return refusal(status, outcome, self._http.subject)
        error = outcome.get("error")
        field = _FIELD.search(str(error.get("reason"))) if isinstance(error, Mapping) else None
        return LucidError(
            f"{self._http.subject} refused a document of the backup for {self._index} ({kind}"
            f"{f', field {field[1]}' if field else ''}); the target is untouched. Restore it on a server that takes it,"
            " or use another backup.",
            reason=Reason.CONTENT_REFUSED if status == _INVALID else Reason.SERVER_REFUSED,
        )


def _action(hit: Hit) -> bytes:
    identifier, routing, version, _, _, _ = hit
    about: dict[str, str | int] = {
        "_id": identifier.decode("utf-8", "surrogatepass"),
        "version": version,
        "version_type": "external_gte",
    }
    if routing is not None:
        about["routing"] = routing.decode("utf-8", "surrogatepass")
    return json.dumps({"index": about}, separators=(",", ":")).encode() + b"\n"
