"""What a refusal of Elasticsearch means in our words, from its status and body alone. Pure; no driver."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping, Sequence

from lucid_storage.errors import (
    AccessDeniedError,
    LoginFailedError,
    LucidError,
    NotSupportedError,
    Reason,
    ServerRefusedError,
    StoreUnavailableError,
)

SENTENCE_LENGTH = 300
_PRIVILEGES = re.compile(r"granted by the (index|cluster) privileges \[([a-z_:*/-]+)")
_ACTION = re.compile(r"action \[([a-z_:/*-]+)\]")
_STATIC = re.compile(r"non dynamic settings \[\[([^\]]*)\]\]|final \S* ?setting \[([^\]]*)\]")
_MAPPING_CONFLICT = re.compile(
    r"conflicts with existing mapper|cannot be changed from type|can't merge a non"
    r"|[Cc]annot update parameter|parameter can't be updated|[Cc]annot update excludes"
)
_DOCUMENT_VALUE = re.compile(r"[.,]? *Preview of field's value.*", re.DOTALL)


def refusal(status: int, body: object, subject: str) -> LucidError:
    """An answer other than success as a condition can carry it: bounded, without values of documents.

    `body` is the answer's decoded JSON. `subject` begins the sentence, such as "Elasticsearch (search) at search:9200".
    """
    kind, sentence = kind_and_sentence(body)
    if 300 <= status < 400:
        return NotSupportedError(
            f"{subject} redirects to another address, and redirects are not followed; name that address itself in the"
            " connection."
        )
    if status == 401:
        return LoginFailedError(f"{subject} refused the login; check user and password, or the API key.")
    if kind == "cluster_block_exception":
        return StoreUnavailableError(_block_sentence(sentence, subject))
    if status == 403:
        return _denied(sentence, subject)
    if status == 405 or "no handler found for uri" in sentence:
        return NotSupportedError(
            f"{subject} does not have this function; it may be too old or a reduced build."
        )
    if status == 406 or kind == "media_type_header_exception":
        return NotSupportedError(f"{subject} does not speak the API of version 8; use Elasticsearch 8.")
    if status in {408, 429, 502, 503, 504}:
        return StoreUnavailableError(
            f"{subject} is overloaded or not ready (HTTP {status}); it is asked again."
        )
    if "more than one write index" in sentence:  # the server calls this its own failure, with status 500
        return ServerRefusedError(
            f"{subject} refused it: {_bounded(sentence)} Let one index be the write index."
        )
    if status >= 500:
        return StoreUnavailableError(f"{subject} failed by itself ({kind or status}); see its log.")
    return _refused(kind, sentence, status, subject)


def _refused(kind: str, sentence: str, status: int, subject: str) -> LucidError:
    static = _STATIC.search(sentence)
    if static or "not updateable" in sentence:
        names = (static[1] or static[2]) if static else "of this kind"
        return ServerRefusedError(
            f"{subject} cannot change the settings {names[:SENTENCE_LENGTH]} of an existing index; "
            "they take effect in the next new index, or by a reindex into one.",
            reason=Reason.NOT_IN_PLACE,
        )
    text = _bounded(sentence or f"HTTP {status}")
    if "Limit of total fields" in sentence:
        text += " Declare fewer fields, or a higher settings.mapping.total_fields.limit."
    if _MAPPING_CONFLICT.search(sentence):
        return ServerRefusedError(
            f"{subject} cannot change the mapping in place: {text} Reindex into a new index with it, "
            "or declare the field as it is.",
            reason=Reason.MAPPING_CONFLICT,
        )
    return ServerRefusedError(f"{subject} refused it ({kind or f'HTTP {status}'}): {text}")


def _denied(sentence: str, subject: str) -> AccessDeniedError:
    privileges = _PRIVILEGES.search(sentence)
    if privileges:
        return AccessDeniedError(
            f"{subject} does not let the login do this; grant the {privileges[1]} privilege {privileges[2]}."
        )
    action = _ACTION.search(sentence)
    what = f"the action {action[1]}" if action else "this"
    return AccessDeniedError(f"{subject} does not let the login do {what}; grant its role the right.")


def _block_sentence(sentence: str, subject: str) -> str:
    if (
        "flood-stage" in sentence
        or "read-only-allow-delete" in sentence
        or "read-only / allow delete" in sentence
    ):
        return (
            f"{subject} has too little free disk and blocks writes; free disk space, then it unblocks itself."
        )
    if "SERVICE_UNAVAILABLE" in sentence:
        return f"{subject} has no elected master or is still starting; it is asked again."
    if "create-index" in sentence:
        return f"{subject} blocks new indices, as it does when disks are nearly full; free disk space there."
    return f"{subject} blocks this by a setting (index.blocks or cluster.blocks); take the block away."


def kind_and_sentence(body: object) -> tuple[str, str]:
    """Type of an error body, and the innermost reason: outer ones often say only that something is invalid."""
    error = body.get("error") if isinstance(body, Mapping) else body
    if not isinstance(error, Mapping):
        return "", str(error or "")
    innermost = error
    while isinstance(inner := innermost.get("caused_by"), Mapping) and inner.get("reason"):
        innermost = inner
    return str(error.get("type") or ""), str(innermost.get("reason") or "")


def _bounded(sentence: str) -> str:
    text = " ".join(_DOCUMENT_VALUE.sub("", sentence).split())
    text = text if len(text) <= SENTENCE_LENGTH else text[: SENTENCE_LENGTH - 3] + "..."
    return text if text.endswith((".", "?", "!")) else text + "."


def unreachable(causes: Sequence[BaseException], subject: str) -> StoreUnavailableError:
    """For a request that got no answer; `causes` are the error and what it came from."""
    return StoreUnavailableError(_unreachable_sentence(causes, subject))


def _unreachable_sentence(causes: Sequence[BaseException], subject: str) -> str:
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return f"{subject} cannot be found; check the host name of the connection."
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return f"{subject} has a certificate that does not fit this host or CA; check both."
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return f"{subject} does not speak TLS as asked for; use http:// or set up TLS there."
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return f"{subject} refuses connections; check that it runs and listens there."
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return f"{subject} does not answer in time; check that it runs and can be reached."
    return f"{subject} closed the connection or sent no valid answer; it is asked again."
