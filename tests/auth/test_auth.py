"""Keys and roles: who may do what, and how soon a revoked key is worth nothing."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.roles import INCLUDES, Principal, Role
from app.auth.tables import ApiKey
from app.main import check_binding
from app.settings import Settings

OPEN = {"/health", "/health/live", "/health/ready", "/metrics"}


async def create(client: httpx.AsyncClient, *roles: str) -> dict[str, str]:
    key = (await client.post("/keys", json={"name": "ci", "roles": list(roles)})).json()["key"]
    return {"Authorization": f"Bearer {key}"}


def routes(app: FastAPI) -> list[tuple[str, str]]:
    paths = app.openapi()["paths"]
    return sorted((method.upper(), path) for path, operations in paths.items() for method in operations)


async def test_no_route_but_health_and_metrics_answers_without_a_key(api: FastAPI) -> None:
    transport = httpx.ASGITransport(api)
    async with httpx.AsyncClient(transport=transport, base_url="http://refit") as nobody:
        for method, path in routes(api):
            status = (await nobody.request(method, path.replace("{", "").replace("}", ""))).status_code
            assert (status == 401) == (path not in OPEN), f"{method} {path} answers {status}"


async def test_a_key_works_at_once_and_is_worth_nothing_a_second_after_it_was_revoked(
    client: httpx.AsyncClient,
) -> None:
    headers = await create(client, "viewer")
    assert (await client.get("/training/jobs", headers=headers)).status_code == 200
    id = headers["Authorization"].split("_")[1]
    await client.delete(f"/keys/{id}")
    async with asyncio.timeout(2):
        while (await client.get("/training/jobs", headers=headers)).status_code != 401:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("key", ["", "x", "refit_", "refit_abc_def", "refit__", "Basic x", "refit_é_ü"])
async def test_a_malformed_key_is_refused_like_an_unknown_one(client: httpx.AsyncClient, key: str) -> None:
    answer = await client.get("/training/jobs", headers={b"Authorization": f"Bearer {key}".encode()})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_truncated_secret_is_refused(client: httpx.AsyncClient, admin_key: str) -> None:
    answer = await client.get("/training/jobs", headers={"Authorization": f"Bearer {admin_key[:-1]}"})
    assert answer.status_code == 401


async def test_many_requests_at_once_on_a_fresh_process_are_all_let_in(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(client.get("/models") for _ in range(40)))
    assert {answer.status_code for answer in answers} == {200}


async def test_the_database_keeps_no_secret(session: AsyncSession, admin_key: str) -> None:
    row = (await session.scalars(select(ApiKey))).one()
    secret = admin_key.split("_")[2]
    assert secret not in {str(value) for value in vars(row).values()}


@pytest.mark.parametrize(
    ("roles", "method", "path", "allowed"),
    [
        (["viewer"], "GET", "/training/jobs", True),
        (["viewer"], "POST", "/training/trigger", False),
        (["viewer"], "POST", "/predict/batch", False),
        (["predictor"], "GET", "/training/jobs", False),
        (["predictor"], "POST", "/predict/batch", True),
        (["reporter"], "POST", "/data/samples", True),
        (["reporter"], "POST", "/predict/batch", False),
        (["trainer"], "GET", "/training/jobs", True),
        (["trainer"], "POST", "/training/trigger", True),
        (["trainer"], "POST", "/model/reload", False),
        (["operator"], "POST", "/model/reload", True),
        (["operator"], "POST", "/training/trigger", True),
        (["operator"], "GET", "/keys", False),
        (["admin"], "GET", "/keys", True),
        (["viewer", "predictor"], "POST", "/predict/batch", True),
    ],
)
async def test_a_role_may_do_what_its_name_says(
    client: httpx.AsyncClient, roles: list[str], method: str, path: str, allowed: bool
) -> None:
    answer = await client.request(method, path, headers=await create(client, *roles), json={})
    assert (answer.status_code != 403) == allowed


def test_every_role_may_do_its_own_and_admin_everything() -> None:
    for role in Role:
        assert Principal("1", "x", frozenset({role})).may(role)
        assert role in INCLUDES[Role.ADMIN]


@pytest.mark.parametrize(("host", "refused"), [("0.0.0.0", True), ("10.0.0.5", True), ("127.0.0.1", False)])
def test_without_authentication_the_service_binds_loopback_only(host: str, refused: bool) -> None:
    config = Settings(auth="off", host=host)
    if refused:
        with pytest.raises(ValueError, match="loopback only"):
            check_binding(config)
    else:
        check_binding(config)
