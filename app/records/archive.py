"""What a job left behind in one file, so that it can be moved to secure storage before it is deleted. No weights.

    job-12/record.json, record.md   the change record
    job-12/definition.json          the revision that it ran with, secrets masked
    job-12/events.jsonl             all that was recorded of the job
    job-12/logs.jsonl, metrics.jsonl
    job-12/evaluation.json, .md     of a language model: every answer with its scores, and the report with the worst;
                                    not the salt of the blind sheet, so it is not the file that has the digest
    job-12/SHA256SUMS               as `sha256sum -c` reads it

The same job gives the same bytes, but for what has happened since. The prompts of an evaluation are rows of the data:
it is for whoever may read those, and as long as retention keeps it.
"""

import asyncio
import gzip
import hashlib
import tarfile
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from io import SEEK_END, BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import Base
from app.definitions.service import load
from app.errors import NotFound
from app.evaluation import kept
from app.evaluation.report import markdown as markdown_of
from app.evaluation.schemas import SAMPLES, EvaluationView
from app.events.tables import Event
from app.records.markdown import markdown
from app.records.service import change_record
from app.training.service import get_job
from app.training.tables import JobLog, JobMetric

AT_ONCE = 5_000
CHUNK = 1 << 18


async def archive(session: AsyncSession, store: Path, job_id: int, *, rows: bool) -> IO[bytes]:
    """An open temporary file with the gzipped tar, to be read from its beginning and closed; with the evaluation for
    whoever may read `rows` of the data. Raises NotFound.
    """
    job = await get_job(session, job_id)
    record = orjson.loads(orjson.dumps(await change_record(session, job_id)))
    definition = (await load(session, job.model, job.definition_revision)).definition
    created_at, told = job.created_at, (job.evaluation, job.id, job.version)
    await session.close()
    evaluation = await asyncio.to_thread(_evaluation, store, *told) if rows else {}
    small = {
        "record.json": _pretty(record),
        "record.md": markdown(record).encode(),
        "definition.json": _pretty(definition.model_dump(mode="json")),
        **evaluation,
    }
    whole = TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        with gzip.GzipFile(fileobj=whole, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
            writer = _Writer(tar, f"job-{job_id}", created_at)
            for name, content in small.items():
                await asyncio.to_thread(writer.add, name, BytesIO(content))
            for name, table in (("events.jsonl", Event), ("logs.jsonl", JobLog), ("metrics.jsonl", JobMetric)):
                await _add_rows(session, writer, name, table, job_id)
            writer.finish()
    except BaseException:
        whole.close()
        raise
    whole.seek(0)
    return whole


def _evaluation(store: Path, digest: str | None, job_id: int, version: int | None) -> dict[str, bytes]:
    """What its file says but the salt, and as people read it; nothing where there is none, or it has gone."""
    if digest is None:
        return {}
    try:
        found = kept.read(store, digest)
    except NotFound:
        return {}
    report = markdown_of(EvaluationView.of(found, digest, job_id, version, SAMPLES))
    return {"evaluation.json": found.findings.model_dump_json().encode(), "evaluation.md": report.encode()}


def chunks(file: IO[bytes]) -> Iterator[bytes]:
    """The file to its end, which closes it. Blocks."""
    with file:
        while part := file.read(CHUNK):
            yield part


class _Writer:
    """Adds files to a tar, and keeps what they hash to."""

    def __init__(self, tar: tarfile.TarFile, folder: str, at: datetime) -> None:
        self._tar, self._folder, self._at = tar, folder, int(at.timestamp())
        self._sums: list[str] = []

    def add(self, name: str, content: IO[bytes]) -> None:
        self._sums.append(f"{hashlib.file_digest(content, 'sha256').hexdigest()}  {name}\n")  # type: ignore[arg-type]
        self._put(name, content)

    def finish(self) -> None:
        self._put("SHA256SUMS", BytesIO("".join(self._sums).encode()))

    def _put(self, name: str, content: IO[bytes]) -> None:
        info = tarfile.TarInfo(f"{self._folder}/{name}")
        info.size, info.mtime, info.mode = content.seek(0, SEEK_END), self._at, 0o640
        content.seek(0)
        self._tar.addfile(info, content)


async def _add_rows(session: AsyncSession, writer: _Writer, name: str, table: type[Any], job_id: int) -> None:
    with TemporaryFile() as lines:
        async for part in _rows(session, table, job_id):
            await asyncio.to_thread(lines.write, b"".join(orjson.dumps(_plain(row)) + b"\n" for row in part))
        lines.seek(0)
        # To pack it may take longer than a transaction may stand idle.
        await session.close()
        await asyncio.to_thread(writer.add, name, lines)


async def _rows(session: AsyncSession, table: type[Any], job_id: int) -> AsyncIterator[list[Any]]:
    after = 0
    while True:
        query = select(table).where(table.job_id == job_id, table.id > after).order_by(table.id).limit(AT_ONCE)
        rows = list((await session.scalars(query)).all())
        session.expunge_all()
        if not rows:
            return
        yield rows
        after = rows[-1].id


def _plain(row: Base) -> dict[str, Any]:
    return {column.key: getattr(row, column.key) for column in row.__table__.columns}


def _pretty(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n"
