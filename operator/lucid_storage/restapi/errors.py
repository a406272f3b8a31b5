"""Errors as the contract's envelope: one sentence, one code, never a stack trace."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from lucid_storage.errors import (
    AccessDeniedError,
    LoginFailedError,
    LucidError,
    NotAllowedError,
    NotSupportedError,
    Reason,
    StoreUnavailableError,
)
from lucid_storage.restapi.clock import Clock

log = logging.getLogger(__name__)

SERVICE = "storage-database"
API_VERSION = "v1"


class Code(StrEnum):
    """The registry of the API specification. What it does not name is `LUCID_ERR_` and the HTTP status."""

    CONNECTION_FAILED = "LUCID_ERR_5001"
    COLLECTION_NOT_FOUND = "LUCID_ERR_5002"
    INDEX_CREATION_FAILED = "LUCID_ERR_5003"
    SHARDING_FAILED = "LUCID_ERR_5004"
    BACKUP_FAILED = "LUCID_ERR_5005"
    RESTORE_FAILED = "LUCID_ERR_5006"
    QUERY_TIMEOUT = "LUCID_ERR_5007"
    DISK_SPACE = "LUCID_ERR_5008"
    LOCK_TIMEOUT = "LUCID_ERR_5009"
    REPLICATION_LAG = "LUCID_ERR_5010"


def code_of(status: int) -> str:
    """The code of an answer that the registry has no number for."""
    return f"LUCID_ERR_{status}"


class ApiError(Exception):
    """An answer that is an error. `details` and `message` are for the caller's eyes."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        details: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code or code_of(status)
        self.details = details or {}
        self.headers = headers or {}


def envelope(error: ApiError, request_id: str, now: datetime) -> JSONResponse:
    """The contract's ErrorResponse."""
    body = {
        "error": {
            "code": str(error.code),
            "message": error.message,
            "details": dict(error.details),
            "request_id": request_id,
            "timestamp": now.isoformat().replace("+00:00", "Z"),
            "service": SERVICE,
            "version": API_VERSION,
        }
    }
    return JSONResponse(body, status_code=error.status, headers=dict(error.headers))


def from_lucid_error(error: LucidError) -> ApiError:
    """The one mapping from the operator's own errors to HTTP."""
    match error:
        case NotAllowedError():
            return ApiError(403, error.message, details={"reason": error.reason.value})
        case NotSupportedError():
            return ApiError(501, error.message, details={"reason": error.reason.value})
        case StoreUnavailableError() | LoginFailedError() | AccessDeniedError():
            return ApiError(
                503, error.message, code=Code.CONNECTION_FAILED, details={"reason": error.reason.value}
            )
    if error.reason is Reason.NOT_CONFIGURED:
        return ApiError(
            503, error.message, code=Code.CONNECTION_FAILED, details={"reason": error.reason.value}
        )
    log.error("an operator error without an HTTP answer: %s", error.reason.value, exc_info=error)
    return internal_error()


def internal_error() -> ApiError:
    return ApiError(500, "The server failed to answer; its log has the details under this request id.")


def timed_out() -> ApiError:
    return ApiError(504, "The store did not answer in time; try again later.", code=Code.QUERY_TIMEOUT)


def from_validation(error: RequestValidationError) -> ApiError:
    """Names each wrong parameter, without repeating its value."""
    problems = [
        {"parameter": ".".join(str(part) for part in problem["loc"][1:]), "problem": str(problem["msg"])}
        for problem in error.errors()[:20]
    ]
    first = problems[0] if problems else {"parameter": "", "problem": "invalid"}
    return ApiError(
        422, f"Parameter {first['parameter']}: {first['problem']}.", details={"problems": problems}
    )


def from_http_exception(error: HTTPException, path: str) -> ApiError:
    """Errors of the routing itself."""
    headers = error.headers or {}
    if error.status_code == 404:
        return ApiError(404, "There is no such path in this API.", headers=headers)
    if error.status_code == 405:
        allowed = headers.get("Allow", "")
        return ApiError(405, f"This path does not take this method; it takes {allowed}.", headers=headers)
    return ApiError(error.status_code, HTTPStatus(error.status_code).phrase + ".", headers=headers)


def request_id_of(request: Request) -> str:
    """The id that the gate gave to the request."""
    found = request.scope.get("state", {}).get("request_id")
    return found if isinstance(found, str) else str(uuid.uuid4())


def install_error_handlers(app: FastAPI, clock: Clock) -> None:
    """Every error that a route raises becomes an envelope here."""

    def answer(request: Request, error: ApiError) -> Response:
        return envelope(error, request_id_of(request), clock.now())

    async def api_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return answer(request, error)

    async def lucid_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, LucidError)
        return answer(request, from_lucid_error(error))

    async def validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(request, from_validation(error))

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return answer(request, from_http_exception(error, request.url.path))

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(LucidError, lucid_error)
    app.add_exception_handler(RequestValidationError, validation_error)
    app.add_exception_handler(HTTPException, http_error)
