"""What is asked thousands of times a second is answered before FastAPI's machinery for each request begins.

A lane is an ASGI application that may decline; then FastAPI answers, as if there were no lane. So every lane's path is
a route as well, with its documentation, its roles and its errors.
"""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import RefitError
from app.http import problem_response

# True: it has answered. False: it has neither read nor sent anything.
Lane = Callable[[Scope, Receive, Send], Awaitable[bool]]


class Express:
    """ASGI middleware: `lanes` by method and path."""

    def __init__(self, app: ASGIApp, lanes: Mapping[tuple[str, str], Lane]) -> None:
        self.app, self.lanes = app, lanes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        lane = self.lanes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if lane is None or not await self._is_answered(lane, scope, receive, send):
            await self.app(scope, receive, send)

    async def _is_answered(self, lane: Lane, scope: Scope, receive: Receive, send: Send) -> bool:
        scope["lane"] = scope["path"]
        try:
            return await lane(scope, receive, send)
        except RefitError as error:
            await problem_response(error)(scope, receive, send)
        except ClientDisconnect:
            pass
        return True
