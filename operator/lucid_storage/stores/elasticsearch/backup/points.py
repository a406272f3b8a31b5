"""Reading an index at a point in time, in slices, page by page, of about PAGE_BYTES however large documents are."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Any

from lucid_storage.errors import LucidError, Reason, RefusedError, StoreUnavailableError
from lucid_storage.stores.elasticsearch.backup.hits import NoSourceError, Page, split
from lucid_storage.stores.elasticsearch.backup.http import Answer, ElasticHttp, TooLargeError, encoded

PAGE_BYTES = 1536 * 1024
LARGEST_PAGE_BYTES = 16 * 1024 * 1024
"""A page that turns out larger is given up and asked for again with fewer documents."""
LARGEST_ANSWER_BYTES = 256 * 1024 * 1024
"""Of a page of one document: the server takes none above 100 MiB by default, and JSON escapes may blow it up."""
MOST_HITS = 10_000
"""index.max_result_window as it is by default."""
_WINDOW = "index.max_result_window"
KEEP = "10m"
TOUCH_SECONDS = 180.0
_CLOSE_SECONDS = 5.0
SLICED_FROM = 5_000
"""Documents from which an index is read in more than one slice."""
_EXPIRED = b"search_context_missing_exception"


class Point:
    """One index as it was when the point was opened. Its id may change with each answer."""

    def __init__(self, index: str, point: str, documents: int, average: int, most: int = MOST_HITS) -> None:
        self.index = index
        self.documents = documents
        """Documents at about that time."""
        self.average = average
        """Bytes on disk of one document, a first guess for pages."""
        self.most = most
        """Documents that the index gives in one page."""
        self.id = point
        self.used = monotonic()


def open_point(http: ElasticHttp, index: str) -> Point:
    """Opens it after a refresh, so that all that was confirmed before is in it. Raises LucidError."""
    path = f"/{encoded(index)}"
    http.must("POST", f"{path}/_refresh")
    size, documents = primaries(http, index)
    answer = http.must("POST", f"{path}/_pit", parameters={"keep_alive": KEEP})
    average = size // documents if documents else 0
    return Point(index, str(answer.json()["id"]), documents, average, _window(http, path))


def _window(http: ElasticHttp, path: str) -> int:
    found = http.must("GET", f"{path}/_settings/{_WINDOW}", parameters={"flat_settings": True}).json()
    windows = [int(one["settings"].get(_WINDOW, MOST_HITS)) for one in found.values()]
    return max(1, min([MOST_HITS, *windows]))


def primaries(http: ElasticHttp, index: str) -> tuple[int, int]:
    """Bytes on disk and documents of the primary shards."""
    parameters = {"filter_path": "_all.primaries"}
    answer = http.must("GET", f"/{encoded(index)}/_stats/docs,store", parameters=parameters).json()
    found = answer.get("_all", {}).get("primaries", {})  # without figures when no primary is assigned
    return int(found.get("store", {}).get("size_in_bytes", 0)), int(found.get("docs", {}).get("count", 0))


def touch(http: ElasticHttp, point: Point) -> None:
    """Keeps a point alive that has not been read for a while. Raises LucidError when it is gone."""
    if monotonic() - point.used >= TOUCH_SECONDS:
        _ask(http, point, {"size": 0, "track_total_hits": False}, LARGEST_PAGE_BYTES)


def close_points(http: ElasticHttp, points: Iterable[Point]) -> None:
    """Gives them back; the server forgets them by itself otherwise, so that a failure is none."""
    for point in points:
        try:
            http.ask("DELETE", "/_pit", {"id": point.id}, repeatable=False, seconds=_CLOSE_SECONDS)
        except StoreUnavailableError:
            return


def pages(http: ElasticHttp, point: Point, part: int, parts: int) -> Iterator[Page]:
    """All documents of one of `parts` slices. Raises LucidError; a page that failed for a moment is asked again."""
    after: int | None = None
    size = min(_first_size(point.average), point.most)
    while True:
        name = secrets.token_hex(16)
        body: dict[str, Any] = {
            "size": size,
            "version": True,
            "seq_no_primary_term": True,
            "track_total_hits": False,
            "sort": [{"_shard_doc": "asc"}],
            "query": {"match_all": {"_name": name}},
        }
        if parts > 1:
            body["slice"] = {"id": part, "max": parts}
        if after is not None:
            body["search_after"] = [after]
        try:
            answer = _ask(http, point, body, LARGEST_PAGE_BYTES if size > 1 else LARGEST_ANSWER_BYTES)
        except TooLargeError:
            if size == 1:
                raise RefusedError(
                    f"A document of {point.index} is larger than {LARGEST_ANSWER_BYTES >> 20} MiB as JSON; "
                    "use the method Snapshot.",
                    reason=Reason.NOT_SUPPORTED,
                ) from None
            size = max(1, size // 4)
            continue
        page = _split(point, answer, name)
        if not page.hits:
            return
        yield page
        after = page.last
        size = min(max(1, PAGE_BYTES * len(page.hits) // max(page.bytes, 1)), 2 * size, point.most)


def _first_size(average: int) -> int:
    """A document takes less on disk than as JSON; three times is rarely exceeded, and a page may grow later."""
    return min(max(1, PAGE_BYTES // max(3 * average, 300)), MOST_HITS)


def _split(point: Point, answer: Answer, name: str) -> Page:
    try:
        page = split(answer.body, name)
    except NoSourceError:
        raise RefusedError(
            f"A document of {point.index} has no _source, so it cannot be exported; use the method Snapshot.",
            reason=Reason.NOT_SUPPORTED,
        ) from None
    if page.point is not None:
        point.id = page.point
    return page


def _ask(http: ElasticHttp, point: Point, body: dict[str, Any], largest: int) -> Answer:
    answer = http.ask(
        "POST",
        "/_search",
        json.dumps({**body, "pit": {"id": point.id, "keep_alive": KEEP}}).encode(),
        {"allow_partial_search_results": False},
        largest=largest,
    )
    point.used = monotonic()
    if answer.ok:
        return answer
    if _EXPIRED in answer.body:
        raise LucidError(
            f"The point in time of {point.index} is gone: it expired, or the server restarted or lost the index. "
            "Make the backup again.",
            reason=Reason.STORE_UNAVAILABLE,
        )
    raise http.refused(answer)
