"""A real Postgres built by the migrations and a real broker, started once; each test gets a database of its own."""

import uuid
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from pathlib import Path

import httpx
import pytest
from alembic import command
from alembic.config import Config
from fastapi import FastAPI
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app import db
from app.auth.service import create_key
from app.cli.embedded import broker, postgres
from app.cli.embedded.folder import hold
from app.main import create_app, lifespan
from app.settings import Settings

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session", autouse=True)
def _certificates_are_read_once() -> Iterator[None]:
    """Whom to trust takes 40 ms to read, and each application and each client of a test would read it anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", lru_cache(httpx.create_ssl_context))
        yield


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose database `refit` was built by the migrations; tests copy it."""
    with (
        hold(tmp_path_factory.mktemp("postgres")) as folder,
        postgres.running(folder, durable=False) as url,
    ):
        config = Config(ROOT / "migrations" / "alembic.ini")
        config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
        command.upgrade(config, "head")
        yield url


@pytest.fixture(scope="session")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with hold(tmp_path_factory.mktemp("broker")) as folder, broker.running(folder) as url:
        yield url


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """A fresh, migrated database."""
    server = create_engine(make_url(postgres_url).set(database="postgres"), isolation_level="AUTOCOMMIT")
    name = f"test_{uuid.uuid4().hex[:12]}"
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE refit STRATEGY file_copy"))
        yield make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


@pytest.fixture
def config(database_url: str, broker_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url,
        broker_url=broker_url,
        data_dir=tmp_path,
        replica_lease_seconds=1.0,
        reload_wait_seconds=5.0,
    )


@pytest.fixture
def store(config: Settings) -> Path:
    return config.store


@pytest.fixture
async def sessions(config: Settings) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    # A test may think for as long as it wants.
    engine = db.create_engine(config, options="")
    yield db.create_sessions(engine)
    await engine.dispose()


@pytest.fixture
async def session(sessions: async_sessionmaker[AsyncSession]) -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


@pytest.fixture
async def admin_key(sessions: async_sessionmaker[AsyncSession]) -> str:
    async with sessions() as session, session.begin():
        return await create_key(session, name="test", roles=["admin"], actor="test")


@pytest.fixture
async def api(config: Settings) -> AsyncIterator[FastAPI]:
    """The whole application in this process: replica, ticker and doorbell run."""
    app = create_app(config)
    async with lifespan(app):
        yield app


@pytest.fixture
async def client(api: FastAPI, admin_key: str) -> AsyncIterator[httpx.AsyncClient]:
    """Calls the application as an admin."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(api, raise_app_exceptions=False),
        base_url="http://refit",
        headers={"Authorization": f"Bearer {admin_key}"},
    ) as client:
        yield client
