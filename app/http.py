"""What every router shares: the database session of a request, and errors as `application/problem+json`.

No error ever echoes what the caller sent: a NaN or a secret in a body must not come back in the answer.
"""

import logging
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Annotated, Any

import orjson
from fastapi import Depends, FastAPI, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from psycopg.errors import IdleInTransactionSessionTimeout
from pydantic import BaseModel
from sqlalchemy.exc import DataError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import openai_errors
from app.errors import Invalid, RefitError, TooLarge, Unavailable, UnsupportedMediaType, field_errors

log = logging.getLogger(__name__)

Headers = list[tuple[bytes, bytes]]
# The content encodings of a body that nobody needs to unpack.
PLAIN = ("", "identity")


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]
IfNoneMatch = Annotated[str | None, Header(description="the ETag that is known: 304 where it still holds")]


class Problem(BaseModel):
    """What an error says. More members go with some codes: `reasons`, `models`, `missing`, `more`."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    remedy: str | None = None
    errors: list[dict[str, Any]] | None = None


# What any route may answer besides; `include_router` puts it into the document.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": HTTPStatus(status).phrase,
        "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
    }
    for status in (401, 403, 404, 405, 409, 412, 413, 415, 422, 503)
}


class ProblemResponse(Response):
    media_type = "application/problem+json"

    def __init__(self, problem: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        super().__init__(orjson.dumps(problem), status_code=problem["status"], headers=headers)
        self.problem = problem

    def told_at(self, path: str) -> "ProblemResponse":
        """In the way of those who call that path."""
        if path.startswith(openai_errors.PREFIX):
            self.body = orjson.dumps(openai_errors.with_error(self.problem))
            self.headers["Content-Length"] = str(len(self.body))
        return self


def problem_response(error: RefitError) -> ProblemResponse:
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return ProblemResponse(error.problem(), headers)


def _refit_error(_: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, RefitError)
    return problem_response(error)


def _validation_error(_: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, RequestValidationError)
    if any(e["type"] == "json_invalid" for e in error.errors()):
        return problem_response(_not_json())
    errors = field_errors(error.errors(), error.body)
    named = ", ".join(dict.fromkeys(e["field"] for e in errors))
    return ProblemResponse(Invalid(f"The request is not valid: {named}.", errors=errors).problem())


def _not_json() -> Invalid:
    return Invalid("The body is not JSON.", code="invalid_json", remedy="Send JSON in UTF-8, not nested too deep.")


def _http_error(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, HTTPException)
    # FastAPI answers 400 to whatever fails while it reads a body: a limit of ours, or what Python cannot parse.
    if error.status_code == 400 and error.__cause__ is not None:
        return problem_response(error.__cause__ if isinstance(error.__cause__, RefitError) else _not_json())
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    problem = RefitError(f"{HTTPStatus(error.status_code).phrase}: /docs lists every route and its methods.", code=code)
    return ProblemResponse(
        problem.problem() | {"status": error.status_code, "title": HTTPStatus(error.status_code).phrase},
        {"Allow": _allowed(request)} if error.status_code == 405 else None,
    )


def _allowed(request: Request) -> str:
    """Every method of the path: Starlette names those of the first route that it came by."""
    known = (route for route in request.app.state.routes if route.path_regex.match(request.scope["path"]))
    return ", ".join(sorted({method for route in known for method in route.methods}))


def _without_postgres(request: Request, error: Exception) -> ProblemResponse:
    """Postgres is away, or every connection to it is taken for longer than anybody should wait."""
    log.warning("%s %s found no Postgres (%s)", request.method, request.url.path, error)
    problem = Unavailable(
        "Postgres does not answer in time.", code="database_unavailable", remedy="Ask again in a moment."
    )
    return ProblemResponse(problem.problem(), {"Retry-After": "2"})


def _interrupted(request: Request, error: Exception) -> ProblemResponse:
    """This process was stopped in the middle of a transaction, for so long that Postgres gave it up."""
    interrupted = isinstance(error, InternalError) and isinstance(error.orig, IdleInTransactionSessionTimeout)
    return (_without_postgres if interrupted else _unexpected)(request, error)


def _not_storable(_: Request, __: Exception) -> ProblemResponse:
    """What no schema could refuse by its field: a NUL or half a surrogate pair somewhere in free JSON."""
    remedy = "Text may hold neither NUL nor lone surrogates, and whole numbers must fit into 64 bits."
    return ProblemResponse(Invalid("Postgres cannot keep a value of this request.", remedy=remedy).problem())


def _unexpected(request: Request, error: Exception) -> ProblemResponse:
    """A fault of Refit. The trace goes to the log; the caller learns where to look, and nothing of the inside."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    remedy = "Look into the log of the API at this time, and report what it says."
    return ProblemResponse(RefitError("Refit failed to answer this request.", remedy=remedy).problem())


HANDLERS: dict[type[Exception], Callable[[Request, Exception], ProblemResponse]] = {
    RefitError: _refit_error,
    RequestValidationError: _validation_error,
    HTTPException: _http_error,
    DataError: _not_storable,
    UnicodeEncodeError: _not_storable,
    OperationalError: _without_postgres,
    InternalError: _interrupted,
    PoolTimeout: _without_postgres,
    Exception: _unexpected,
}


def response_to(request: Request, error: Exception) -> Response:
    """What any error becomes, for whoever answers without FastAPI."""
    handle = next(handle for known, handle in HANDLERS.items() if isinstance(error, known))
    return handle(request, error).told_at(request.scope["path"])


def install(app: FastAPI) -> None:
    for known in HANDLERS:
        app.add_exception_handler(known, response_to)


class LimitBody:
    """ASGI middleware: a body beyond `limit` bytes is refused (413) before it is held in memory, chunked or not.

    An encoded one is refused as well (415): a few kilobytes of gzip could unfold to more than the limit. FastAPI's own
    `max_body_size` answers an announced length in plain text, which is no problem document.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if refused := refusal(scope, self.limit):
            response = ProblemResponse(refused.problem(), {"Connection": "close"}).told_at(scope["path"])
            await response(scope, receive, send)
            return
        read = 0

        async def receive_and_count() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.limit:
                raise too_large(self.limit)
            return message

        await self.app(scope, receive_and_count, send)


def refusal(scope: Scope, limit: int) -> RefitError | None:
    """Why a body is not to be read, by the request's headers alone."""
    announced = header(scope, b"content-length")
    if announced.isdigit() and int(announced[:20]) > limit:
        return too_large(limit)
    if header(scope, b"upgrade") and (announced not in ("", "0") or header(scope, b"transfer-encoding")):
        # uvicorn's parser ends where an upgrade begins: the body is lost, and an optional one would not be missed.
        remedy = "Send the request without it."
        return Invalid("A body is lost behind `Upgrade`.", code="upgrade_unsupported", remedy=remedy)
    if header(scope, b"content-encoding").lower() not in PLAIN:
        remedy = "Send it without Content-Encoding."
        return UnsupportedMediaType("The body is encoded.", code="unsupported_encoding", remedy=remedy)
    return None


def too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is larger than {limit} bytes.", remedy="Send it in parts.")


def header(scope: Scope, name: bytes) -> str:
    """The first header of that name (in lower case) of a request; "" where it has none."""
    for known, value in scope["headers"]:
        if known == name:
            return str(value, "latin-1")
    return ""


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body of a request. Raises TooLarge, or ClientDisconnect where the caller is gone before its end."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise too_large(limit)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)
