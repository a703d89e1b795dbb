"""The change record of a retraining: what was changed, on which evidence, on whose say, and what became of it."""

import asyncio
import io
import subprocess
import tarfile
from typing import Any

import httpx
import orjson
import pytest
from click.testing import CliRunner
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.db import clock
from app.definitions.service import apply
from app.incidents import links
from app.incidents.service import open_incident
from app.records.markdown import markdown, text
from app.records.sections import SECTIONS
from app.records.service import change_record
from app.registry import swap
from app.registry.swap import Change
from app.settings import Settings
from app.training import state
from app.training.tables import JobLog, JobMetric, TrainingJob
from app.watch.tables import Watch
from tests.factories import candidate, claim, define, definition, trigger, version

Maker = async_sessionmaker[AsyncSession]
DIGEST = "d" * 64


async def story(sessions: Maker, config: Settings) -> None:
    """Version 1 served; version 2 was forced past its prerequisites and into the slot, and was rolled back."""
    async with sessions() as session, session.begin():
        await define(session, "fraud")
        await version(session, config, "fraud")
        await swap.stage(session, Change("fraud", "alice"), 1)
        await swap.reload(session, Change("fraud", "alice"), watch_minutes=0)
        changed = definition(description="<b>other</b>", prerequisites={"min_new_samples": 9})
        await apply(session, "fraud", changed, actor="bob")
        job = await trigger(session, config, "fraud", force=True, reason="the board | wants it")
        await session.execute(update(TrainingJob).values(data_digest=DIGEST))
        await data_version(session)
        held = await claim(session)
        await session.execute(insert(JobLog), [{"job_id": job.id, "attempt": 1, "line": f"line {n}"} for n in range(3)])
        point = {"job_id": job.id, "attempt": 1, "name": "loss", "step": 1, "value": 0.5}
        await session.execute(insert(JobMetric).values(point))
        await state.complete(session, held, judged(incumbent=1))
        await swap.stage(session, Change("fraud", "refit", "passed the gate"), 2)
        await swap.reload(session, Change("fraud", "carol", "better", force=True), watch_minutes=0)
        await swap.rollback(session, Change("fraud", "dave", "worse"), 1, hold=True)
        evidence = [links.to_version("fraud", 2)]
        await open_incident(session, severity="P2", title="worse", actor="refit", model="fraud", links=evidence)


async def data_version(session: AsyncSession) -> None:
    from app.data.tables import DataVersion

    empty: dict[str, Any] = {"dropped": {}, "labels": [], "columns": [], "split": {}, "source": {"source": "samples"}}
    values = {"model": "fraud", "digest": DIGEST, "rows": 100, "counts": {"train": 70, "holdout": 30}}
    await session.execute(insert(DataVersion).values(values | empty | {"duplicates": 0, "bytes": 1}))


def judged(**kind: Any) -> dict[str, Any]:
    criterion = {"name": "f1", "verdict": "pass", "candidate": 0.91, "incumbent": 0.9, "interval": [0.0, 0.02]}
    told = candidate(**kind)
    return told | {"metrics": {"f1": 0.91}, "gate": told["gate"] | {"criteria": [criterion]}}


async def told(sessions: Maker, job_id: int = 2) -> dict[str, Any]:
    async with sessions() as session:
        found: dict[str, Any] = orjson.loads(orjson.dumps(await change_record(session, job_id)))
    return found


async def test_the_record_says_what_was_changed_and_what_differs_from_before(sessions: Maker, config: Settings) -> None:
    await story(sessions, config)
    record = await told(sessions)
    assert (record["model"], record["version"], record["data"]["digest"]) == ("fraud", 2, DIGEST)
    assert (record["data"]["rows"], record["data"]["counts"]) == (100, {"train": 70, "holdout": 30})
    assert record["definition"]["differences"] == {
        "description": {"older": "", "newer": "<b>other</b>"},
        "prerequisites.min_new_samples": {"older": 0, "newer": 9},
    }
    assert (record["definition"]["actor"], record["definition"]["compared_with"]) == ("bob", 1)


async def test_the_record_says_on_which_evidence_and_on_whose_say(sessions: Maker, config: Settings) -> None:
    await story(sessions, config)
    record = await told(sessions)
    assert (record["trigger"]["trigger"], record["trigger"]["reason"]) == ("manual", "the board | wants it")
    assert record["evaluation"]["gate"]["criteria"][0]["candidate"] == 0.91
    checks = record["approvals"]["forced_checks"]["checks"]
    assert [(c["code"], c["value"], c["required"]) for c in checks] == [("insufficient_new_samples", 0, 9)]
    assert [(c["action"], c["actor"]) for c in record["approvals"]["forced_changes"]] == [("reloaded", "carol")]
    assert [(c["actor"], c["reason"]) for c in record["approvals"]["reloaded_by"]] == [("carol", "better")]


async def test_the_record_says_what_became_of_it(sessions: Maker, config: Settings) -> None:
    await story(sessions, config)
    record = await told(sessions)
    done = [(change["action"], change["actor"]) for change in record["swap"]["changes"]]
    assert done == [("staged", "refit"), ("reloaded", "carol"), ("rolled_back", "dave")]
    assert [r["reason"] for r in record["incidents"]["rollbacks"]] == ["worse"]
    assert [i["title"] for i in record["incidents"]["incidents"]] == ["worse"]
    assert (record["state"]["place"], record["state"]["active"], record["watch"]) == ("standby", 1, None)
    assert (await told(sessions, 1))["state"]["place"] == "active"


async def test_every_watch_of_the_version_is_told_and_the_one_that_was_breached_in_full(
    sessions: Maker, config: Settings
) -> None:
    await story(sessions, config)
    async with sessions() as session, session.begin():
        now = (await session.scalars(select(clock()))).one()
        times = dict.fromkeys(("started_at", "counts_from", "until", "ended_at"), now)
        for generation, state, breached in ((2, "rolled_back", now), (4, "superseded", None)):
            of = {"model": "fraud", "generation": generation, "version": 2, "previous": 1, "state": state}
            session.add(Watch(**of, **times, breached_at=breached, numbers={"requests": generation}))
    watch = (await told(sessions))["watch"]
    assert [each["state"] for each in watch["watches"]] == ["rolled_back", "superseded"]
    assert (watch["decisive"]["state"], watch["decisive"]["numbers"]) == ("rolled_back", {"requests": 2})


async def test_a_job_that_made_no_version_has_a_record_as_well(sessions: Maker, config: Settings) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud")
        await trigger(session, config, "fraud")
    record = await told(sessions, 1)
    assert (record["version"], record["evaluation"], record["swap"]) == (None, None, None)
    assert markdown(record).count("Nothing to tell.") == 4


async def test_it_is_json_or_markdown_as_the_caller_wants(
    client: httpx.AsyncClient, sessions: Maker, config: Settings
) -> None:
    await story(sessions, config)
    path = "/training/jobs/2/record"
    assert (await client.get(path)).json()["definition"]["revision"] == 2
    for params, headers in (({"format": "md"}, {}), ({}, {"Accept": "text/markdown"})):
        answer = await client.get(path, params=params, headers=headers)
        assert answer.headers["content-type"].startswith("text/markdown")
        assert answer.text.startswith("# fraud v2: change record of job 2\n")
    assert (await client.get(path, params={"format": "pdf"})).status_code == 422
    assert (await client.get("/training/jobs/99/record")).json()["code"] == "job_not_found"


async def test_nothing_that_somebody_wrote_becomes_markup(sessions: Maker, config: Settings) -> None:
    await story(sessions, config)
    shown = markdown(await told(sessions))
    assert all(f"## {title}" in shown for _, title, _ in SECTIONS)
    assert r"the board \| wants it" in shown
    assert "<b>" not in shown
    assert r"\<b\>other\</b\>" in shown
    rows = [line for line in shown.splitlines() if line.startswith("| f1 |")]
    assert rows == [r"| f1 | pass | 0.91 | 0.9 | 0, 0.02 |"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (True, "yes"),
        (0, "0"),
        (-3, "-3"),
        (0.123456789, "0.123457"),
        ("a\n# b", r"a \# b"),
        ({"a": [1, 2]}, "a 1, 2"),
        ("- a", r"\- a"),
        ("---", r"\---"),
        ("==", r"\=="),
        ("12. a", r"12\. a"),
        ("1) a", r"1\) a"),
        ("-a", "-a"),
        ("1.5", "1.5"),
        ("&lt;", r"\&lt;"),
    ],
)
def test_a_value_stands_on_one_line(value: Any, shown: str) -> None:
    assert text(value) == shown


async def test_the_archive_holds_all_that_was_said_and_no_weights(
    client: httpx.AsyncClient, sessions: Maker, config: Settings
) -> None:
    await story(sessions, config)
    answer = await client.get("/training/jobs/2/archive")
    assert answer.headers["content-disposition"] == 'attachment; filename="job-2.tar.gz"'
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        files = {name: (tar.extractfile(name) or io.BytesIO()).read() for name in tar.getnames()}
    names = ("record.json", "record.md", "definition.json", "events.jsonl", "logs.jsonl", "metrics.jsonl", "SHA256SUMS")
    assert list(files) == [f"job-2/{name}" for name in names]
    lines = [orjson.loads(line)["line"] for line in files["job-2/logs.jsonl"].splitlines()]
    assert lines == ["line 0", "line 1", "line 2"]
    assert orjson.loads(files["job-2/metrics.jsonl"])["value"] == 0.5
    kinds = [orjson.loads(line)["kind"] for line in files["job-2/events.jsonl"].splitlines()]
    assert kinds == ["job.accepted", "job.started", "job.completed"]
    assert orjson.loads(files["job-2/definition.json"])["description"] == "<b>other</b>"


async def test_the_sums_of_an_archive_are_those_of_its_files(
    client: httpx.AsyncClient, sessions: Maker, config: Settings, tmp_path: Any
) -> None:
    await story(sessions, config)
    packed = (await client.get("/training/jobs/2/archive")).content
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        tar.extractall(tmp_path, filter="data")
    check = ["sha256sum", "-c", "--strict", "SHA256SUMS"]
    told = await asyncio.to_thread(subprocess.check_output, check, cwd=tmp_path / "job-2")
    assert told.count(b": OK") == 6


async def test_a_secret_of_a_definition_is_in_neither(
    client: httpx.AsyncClient, sessions: Maker, config: Settings
) -> None:
    url = "postgresql://reader:hunter2@db/x"
    async with sessions() as session, session.begin():
        await define(session, "fraud", data={"source": "sql", "url": url, "query": "SELECT 1", "label": "y"})
        await trigger(session, config, "fraud")
        changed = {"source": "sql", "url": url.replace("hunter2", "hunter3"), "query": "SELECT 2", "label": "y"}
        await apply(session, "fraud", definition(data=changed), actor="bob")
        await state.request_cancel(session, 1, actor="test", reason=None)
        await trigger(session, config, "fraud")
    record = (await client.get("/training/jobs/2/record")).text
    with tarfile.open(fileobj=io.BytesIO((await client.get("/training/jobs/2/archive")).content)) as tar:
        everything = b"".join((tar.extractfile(m) or io.BytesIO()).read() for m in tar.getmembers())
    assert "hunter" not in record
    assert b"hunter" not in everything
    assert "data.query" in record


def test_a_record_is_printed_or_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from functools import partial

    from app.cli import main
    from tests.cli.made_up import URL, MadeUpService

    service = MadeUpService()
    service.on("GET /training/jobs/12/record", lambda request: answer_of(request.url.params["format"]))
    monkeypatch.setattr(httpx, "Client", partial(httpx.Client, transport=httpx.MockTransport(service)))
    monkeypatch.setenv("REFIT_URL", URL)
    monkeypatch.setenv("REFIT_DATA_DIR", str(tmp_path))
    runner = CliRunner()
    assert runner.invoke(main, ["record", "12"]).stdout == "# fraud\n"
    assert orjson.loads(runner.invoke(main, ["record", "12", "--json"]).stdout) == {"job_id": 12}
    assert runner.invoke(main, ["record", "12", "--json", "--markdown"]).exit_code == 2
    out = tmp_path / "change.md"
    assert runner.invoke(main, ["record", "12", "--out", str(out)]).stdout == ""
    assert out.read_text() == "# fraud\n"


def answer_of(format: str) -> Any:
    return {"job_id": 12} if format == "json" else httpx.Response(200, text="# fraud\n")
