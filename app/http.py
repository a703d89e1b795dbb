"""What every router shares: the database session of a request, and errors as `application/problem+json`.

No error ever echoes what the caller sent: a NaN or a secret in a body must not come back in the answer.
"""

import logging
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any

import orjson
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Invalid, RefitError, TooLarge, Unavailable, field_errors

log = logging.getLogger(__name__)


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]


class ProblemResponse(Response):
    media_type = "application/problem+json"

    def __init__(self, problem: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        super().__init__(orjson.dumps(problem), status_code=problem["status"], headers=headers)


def _refit_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefitError)
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
    return ProblemResponse(error.problem(), headers)


def _validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = field_errors(error.errors())
    named = ", ".join(dict.fromkeys(e["field"] for e in errors))
    return ProblemResponse(Invalid(f"The request is not valid: {named}.", errors=errors).problem())


def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    problem = RefitError(f"{HTTPStatus(error.status_code).phrase}: /docs lists every route and its methods.", code=code)
    return ProblemResponse(
        problem.problem() | {"status": error.status_code, "title": HTTPStatus(error.status_code).phrase},
        dict(error.headers) if error.headers else None,
    )


def _without_postgres(request: Request, error: Exception) -> Response:
    """Postgres is away, or every connection to it is taken for longer than anybody should wait."""
    log.warning("%s %s found no Postgres (%s)", request.method, request.url.path, error)
    problem = Unavailable(
        "Postgres does not answer in time.", code="database_unavailable", remedy="Ask again in a moment."
    )
    return ProblemResponse(problem.problem(), {"Retry-After": "2"})


def _not_storable(_: Request, __: Exception) -> Response:
    """What no schema could refuse by its field: a NUL or half a surrogate pair somewhere in free JSON."""
    remedy = "Text may hold neither NUL nor lone surrogates, and whole numbers must fit into 64 bits."
    return ProblemResponse(Invalid("Postgres cannot keep a value of this request.", remedy=remedy).problem())


def _unexpected(request: Request, error: Exception) -> Response:
    """A fault of Refit. The trace goes to the log; the caller learns where to look, and nothing of the inside."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    remedy = "Look into the log of the API at this time, and report what it says."
    return ProblemResponse(RefitError("Refit failed to answer this request.", remedy=remedy).problem())


def install(app: FastAPI) -> None:
    app.add_exception_handler(RefitError, _refit_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(DataError, _not_storable)
    app.add_exception_handler(UnicodeEncodeError, _not_storable)
    app.add_exception_handler(OperationalError, _without_postgres)
    app.add_exception_handler(PoolTimeout, _without_postgres)
    app.add_exception_handler(Exception, _unexpected)


class LimitBody:
    """ASGI middleware: a body beyond `limit` bytes is refused (413) before it is held in memory, chunked or not.

    FastAPI's own `max_body_size` answers an announced length in plain text, which is no problem document.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self.limit:
            await self._refuse(scope, receive, send)
            return
        read = 0

        async def receive_and_count() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.limit:
                raise TooLarge(f"The body is larger than {self.limit} bytes.", remedy="Send it in parts.")
            return message

        await self.app(scope, receive_and_count, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = TooLarge(f"The body is larger than {self.limit} bytes.", remedy="Send it in parts.")
        await ProblemResponse(error.problem(), {"Connection": "close"})(scope, receive, send)
