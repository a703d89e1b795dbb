"""Definitions: whole or not at all, numbered, pinned by every job."""

from typing import Any

import httpx
import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.definitions.schemas import Definition
from app.definitions.service import apply, load
from app.definitions.tables import ModelType
from app.errors import Refused
from app.settings import Settings
from app.training import state
from tests.factories import candidate, claim, define, definition, trigger

BODY: dict[str, Any] = {"type": "classifier", "data": {"source": "samples", "label": "y"}}
SLICE: dict[str, Any] = {"column": "region", "criteria": {"f1": {"max_drop": 0.02}}}


@pytest.fixture
async def types(sessions: async_sessionmaker[AsyncSession]) -> None:
    async with sessions() as session, session.begin():
        await define(session)


def test_type_and_data_are_enough_and_the_rest_is_the_runbooks() -> None:
    bare = Definition.model_validate(BODY)
    assert bare.prerequisites.min_new_samples == 10_000
    assert {name: c.model_dump(exclude_none=True) for name, c in bare.gate.criteria_of("y").items()} == {
        "f1": {"max_drop": 0.01},
        "auc_roc": {"max_drop": 0.005},
        "precision": {"min": 0.85},
        "recall": {"min": 0.80},
        "latency_p99_seconds": {"max": 1.0},
    }
    assert (bare.promotion.reload, bare.gate_mode, bare.watch.minutes) == ("manual", "point", 30)


def test_a_gate_that_reloads_by_itself_is_confident_unless_told_otherwise() -> None:
    automatic = BODY | {"promotion": {"reload": "automatic"}}
    assert Definition.model_validate(automatic).gate_mode == "confident"
    assert Definition.model_validate(automatic | {"gate": {"mode": "point"}}).gate_mode == "point"


def test_a_criterion_set_to_null_is_dropped_and_the_others_stay() -> None:
    gate = Definition.model_validate(BODY | {"gate": {"criteria": {"recall": None, "f1": {"min": 0.5}}}}).gate
    assert sorted(gate.criteria_of("y")) == ["auc_roc", "f1", "latency_p99_seconds", "precision"]
    assert gate.criteria_of("y")["f1"].min == 0.5


async def test_applying_the_same_again_makes_no_revision(client: httpx.AsyncClient, types: None) -> None:
    first = (await client.put("/models/fraud", json=BODY)).json()
    again = (await client.put("/models/fraud", json=BODY)).json()
    other = (await client.put("/models/fraud", json=BODY | {"description": "cards"})).json()
    told = [(answer["revision"], answer["changed"]) for answer in (first, again, other)]
    assert told == [(1, True), (1, False), (2, True)]
    assert (await client.get("/models/fraud?revision=1")).json()["definition"]["description"] == ""


async def test_a_job_keeps_the_revision_that_it_was_triggered_with(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud")
    job = await trigger(session, config, "fraud")
    await define(session, "fraud", description="changed meanwhile")
    assert job.definition_revision == 1
    await state.complete(session, await claim(session), candidate())
    assert (await load(session, "fraud", job.definition_revision)).definition.description == ""


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"typ": "x"}, "typ"),
    ({"type": "Classifier"}, "type"),
    ({"data": {"source": "samples", "label": "y", "keys": "id"}}, "data"),
    ({"data": {"source": "ftp", "label": "y"}}, "data"),
    ({"data": {"label": "y"}}, "data"),
    ({"split": {"by": "random"}}, "split.by"),
    ({"triggers": {"schedule": "0 0 30 2 *"}}, "triggers.schedule"),
    ({"triggers": {"cooldown_minutes": 1e300}}, "triggers.cooldown_minutes"),
    ({"monitors": {"f1": {"window_minutes": 1e300}}}, "body"),
    ({"monitors": {"f1": {"silent_minutes": 1e300}}}, "body"),
    ({"monitors": {"f1": {"head": "z"}}}, "body"),
    ({"split": {"by": "time"}}, "body"),
    ({"split": {"validation": 0.5, "holdout": 0.45}}, "split"),
    ({"gate": {"criteria": {"f1": {}}}}, "gate.criteria.f1"),
    ({"gate": {"criteria": {"f1": {"minimum": 0.5}}}}, "gate.criteria.f1.minimum"),
    ({"gate": {"criteria": {"f2": {"min": 0.5}}}}, "gate"),
    ({"gate": {"criteria": {"log_loss[spam]": {"max": 0.5}}}}, "gate"),
    ({"gate": {"criteria": {"x.f1": {"min": 0.5}}}}, "gate"),
    ({"gate": {"slices": [{"column": "region"}]}}, "gate.slices.0.criteria"),
    ({"gate": {"slices": [{"column": "region", "criteria": {}}]}}, "gate.slices.0.criteria"),
    ({"gate": {"slices": [SLICE | {"column": "y"}]}}, "gate"),
    ({"gate": {"slices": [SLICE | {"column": "a\0b"}]}}, "gate.slices.0.column"),
    ({"gate": {"slices": [SLICE | {"criteria": {"latency_p99_seconds": {"max": 1}}}]}}, "gate"),
    ({"gate": {"slices": [SLICE, SLICE]}}, "gate.slices"),
    ({"gate": {"slices": [SLICE | {"too_few": "pass"}]}}, "gate.slices.0.too_few"),
    ({"triggers": {"schedule": "every sunday"}}, "triggers.schedule"),
    ({"triggers": {"schedule": "*/61 * * * *"}}, "triggers.schedule"),
    ({"training": {"cv_folds": 1e20}}, "training"),
    ({"watch": {"minutes": 1e300}}, "watch"),
    ({"prerequisites": {"min_new_samples": 10**20}}, "prerequisites.min_new_samples"),
    ({"gate": {"criteria": {"f1": {"min": 0.9, "max": 0.1}}}}, "gate.criteria.f1"),
    ({"queue": "GPU 1"}, "queue"),
]


async def test_a_definition_that_cannot_be_is_refused_by_field(client: httpx.AsyncClient, types: None) -> None:
    for change, field in WRONG:
        answer = await client.put("/models/fraud", json=BODY | change)
        assert answer.status_code == 422, change
        assert any(error["field"].startswith(field) for error in answer.json()["errors"]), answer.json()["errors"]
        assert (await client.get("/models/fraud")).status_code == 404


def test_a_criterion_may_speak_of_a_class_that_there_is() -> None:
    gate = {"criteria": {"recall[spam]": {"min": 0.5}}, "slices": [SLICE | {"criteria": {"f1[spam]": {"min": 0.5}}}]}
    Definition.model_validate(BODY | {"gate": gate})
    known = BODY | {"data": BODY["data"] | {"labels": ["ham", "spam"]}}
    assert Definition.model_validate(known | {"gate": gate}).gate.slice_columns == ["region"]
    with pytest.raises(ValueError, match=r"speaks of a class that data.labels does not know; it knows ham, eggs"):
        Definition.model_validate(BODY | {"data": BODY["data"] | {"labels": ["ham", "eggs"]}, "gate": gate})


async def test_a_type_that_no_worker_has_announced_is_refused_with_those_that_were(
    client: httpx.AsyncClient, types: None
) -> None:
    answer = (await client.put("/models/fraud", json=BODY | {"type": "oracle"})).json()
    assert (answer["code"], answer["remedy"]) == ("unknown_model_type", "Known are: classifier.")


async def test_training_parameters_are_held_against_the_workers_schema(client: httpx.AsyncClient, types: None) -> None:
    answer = (await client.put("/models/fraud", json=BODY | {"training": {"epochs": "many"}})).json()
    assert (answer["code"], answer["errors"][0]["field"]) == ("invalid_params", "training.epochs")


@pytest.mark.parametrize("name", ["Fraud", "1fraud", "fraud!", "a" * 64, "-x"])
async def test_a_name_that_would_not_fit_everywhere_is_refused(
    client: httpx.AsyncClient, types: None, name: str
) -> None:
    assert (await client.put(f"/models/{name}", json=BODY)).status_code == 422


@pytest.mark.parametrize(
    ("monitor", "told"),
    [
        ({"kind": "accuracy", "head": "z"}, "monitors.m.head: 'z' is no label column; there is y"),
        ({"kind": "accuracy", "versions": {"1": {"kind": "drift"}}}, "monitors.m: versions.1 cannot change kind"),
        (
            {"kind": "drift", "window_minutes": 0},
            "monitors.m.window_minutes: Input should be greater than or equal to 1",
        ),
    ],
)
async def test_a_monitor_that_cannot_be_is_refused_in_one_plain_sentence(
    client: httpx.AsyncClient, types: None, monitor: dict[str, Any], told: str
) -> None:
    refused = (await client.put("/models/fraud", json=BODY | {"monitors": {"m": monitor}})).json()
    assert [error["message"] for error in refused["errors"]] == [told]


async def test_a_model_keeps_its_type(session: AsyncSession) -> None:

    await define(session, "fraud")
    other = {"name": "other", "summary": "", "queue": "cpu", "params_schema": {"type": "object"}, "stages": []}
    await session.execute(insert(ModelType).values(other))
    with pytest.raises(Refused) as refused:
        await apply(session, "fraud", definition(type="other"), actor="test")
    assert refused.value.code == "type_fixed"
