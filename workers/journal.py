"""What an attempt says, on its way to Postgres: stages, progress, curves and log lines, a few times a second."""

import asyncio
import logging
import os
from contextlib import suppress
from typing import Any

import orjson
from sqlalchemy import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.events.record import REFIT, record
from app.training import state
from app.training.state import Claim
from app.training.tables import JobLog, JobMetric

log = logging.getLogger(__name__)

WRITE_EVERY_SECONDS = 0.25
LONGEST_LINE = 4_000
# An attempt that says more than this is not read by anybody; its first lines are kept.
MOST_LINES = 20_000
# One message on the pipe: the outcome carries the gate's report.
LONGEST_NEWS = 32 * 2**20


class Journal:
    """Collects in memory, writes in the background; `outcome` is the attempt's last word, None if it had none."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], claim: Claim) -> None:
        self.outcome: dict[str, Any] | None = None
        self._sessions = sessions
        self._claim = claim
        self._figures: dict[str, Any] = {}
        self._stages: list[dict[str, Any]] = []
        self._points: list[dict[str, Any]] = []
        self._lines: list[str] = []
        self._said = 0
        self._urgent = asyncio.Event()

    async def read_news(self, descriptor: int) -> None:
        """Until every process of the attempt has closed its end of the pipe."""
        reader = asyncio.StreamReader(limit=LONGEST_NEWS)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
        )
        while line := await reader.readline():
            self._note(orjson.loads(line))
        transport.close()

    async def read_log(self, output: asyncio.StreamReader | None) -> None:
        """Until standard output is closed. Undecodable bytes and overlong lines are kept as far as they go."""
        assert output is not None
        rest = b""
        while chunk := await output.read(1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._say(line.decode(errors="replace"))
            rest = rest[-LONGEST_LINE:]
        if rest:
            self._say(rest.decode(errors="replace"))

    async def keep_writing(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._urgent.wait(), WRITE_EVERY_SECONDS)
            self._urgent.clear()
            await self.write()

    async def write(self) -> None:
        """Writes what was collected; kept while Postgres is away, forgotten once the claim is lost."""
        figures, stages, points, lines = self._figures, self._stages, self._points, self._lines
        if not (figures or stages or points or lines):
            return
        self._figures, self._stages, self._points, self._lines = {}, [], [], []
        try:
            async with self._sessions() as session, session.begin():
                await self._write(session, figures, stages, points, lines)
        except (SQLAlchemyError, OSError) as error:
            log.warning("job %s: could not write its progress (%s)", self._claim.job_id, error)
            self._figures = figures | self._figures
            self._stages, self._points = stages + self._stages, points + self._points
            self._lines = lines + self._lines

    async def _write(
        self,
        session: AsyncSession,
        figures: dict[str, Any],
        stages: list[dict[str, Any]],
        points: list[dict[str, Any]],
        lines: list[str],
    ) -> None:
        of_attempt = {"job_id": self._claim.job_id, "attempt": self._claim.attempt}
        held = state.advance(session, self._claim, **figures) if figures else state.holds(session, self._claim)
        if not await held:
            return
        for stage in stages:
            await record(
                session,
                kind=f"stage.{stage.pop('state')}",
                actor=REFIT,
                model=self._claim.model,
                job_id=self._claim.job_id,
                after=stage["name"],
                evidence=stage | {"attempt": self._claim.attempt},
            )
        if points:
            await session.execute(insert(JobMetric), [point | of_attempt for point in points])
        if lines:
            await session.execute(insert(JobLog), [{"line": line} | of_attempt for line in lines])

    def _note(self, news: dict[str, Any]) -> None:
        match news.pop("kind"):
            case "outcome":
                self.outcome = news
            case "stage":
                if news["state"] == "started":
                    self._figures |= {"stage": news["name"], "progress_note": None}
                self._stages.append(news)
                self._urgent.set()
            case "figures":
                self._figures |= news
            case "metric":
                self._points.append(news)
            case "log":
                self._say(news["message"])

    def _say(self, line: str) -> None:
        self._said += 1
        if self._said < MOST_LINES:
            self._lines.append(line[:LONGEST_LINE].replace("\x00", ""))
        elif self._said == MOST_LINES:
            self._lines.append(f"… more than {MOST_LINES} lines; the rest is not kept")
