"""What answers: the parts that a request is served by, and the bounds of an answer that takes long."""

import asyncio
import time
from collections.abc import Collection, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app.errors import Unavailable
from app.serving.counting import Counting
from app.serving.directions import Directions
from app.serving.replica import Replica
from app.serving.shadow import Shadow
from app.serving.upstream import Upstreams
from app.settings import Settings

Result = TypeVar("Result")


class Leaving(Unavailable):
    """This replica ends, and the answer took longer than it could wait."""

    code, retry_after = "leaving", 1

    def __init__(self) -> None:
        super().__init__("This replica ends before the answer does.", remedy="Ask again: another one answers.")


class TookTooLong(Unavailable):
    code = "answer_timeout"

    def __init__(self) -> None:
        remedy = "Ask for fewer tokens, or let REFIT_ANSWER_SECONDS be longer."
        super().__init__("The answer took longer than one may.", remedy=remedy)


class Attendance:
    """Long answers are given up once their caller is gone, once their time is over, or once this replica must end."""

    def __init__(self) -> None:
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end_in(self, seconds: float) -> None:
        """So long may go on what has begun."""
        asyncio.get_running_loop().call_later(seconds, self._end)

    async def attend(self, receive: Receive, work: Coroutine[Any, Any, Result], until: float | None) -> Result:
        """What `work` comes to, which has until then (monotonic; None: as long as it takes). Raises ClientDisconnect,
        Leaving, TookTooLong."""
        doing, gone = asyncio.create_task(work), asyncio.create_task(_gone(receive))
        waited: set[asyncio.Future[Any]] = {doing, gone, self._over}
        try:
            patience = None if until is None else max(0.0, until - time.monotonic())
            await asyncio.wait(waited, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                return doing.result()
            if gone.done():
                raise ClientDisconnect
            raise Leaving if self._over.done() else TookTooLong
        finally:
            await give_up((doing, gone))
            # An error that is raised holds this frame: were it to hold the error, a version would stay in memory.
            del doing, waited

    def _end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def give_up(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancels them and waits for their end. Whatever one has failed with meanwhile, nobody asks any more."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()


@dataclass(frozen=True, slots=True)
class Serving:
    """`counting` None where nothing is counted."""

    settings: Settings
    replica: Replica
    directions: Directions
    counting: Counting | None
    shadow: Shadow
    upstreams: Upstreams
    attendance: Attendance

    def expect_lease(self) -> bool:
        """Whether there is one. Raises Unavailable `stale` where serving is strict and there is none."""
        has_lease = self.replica.has_lease
        if self.settings.strict_serving and not has_lease:
            raise Unavailable("This replica has lost its lease.", code="stale", remedy="Ask another replica.")
        return has_lease
