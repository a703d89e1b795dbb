"""Who is calling, and whether that role may: API keys, checked from memory, revoked within a second everywhere.

A key reads `refit_<id>_<secret>`; it is sent as `Authorization: Bearer <key>` or `X-API-Key: <key>`. A router asks for
a role by annotating a parameter: `principal: Trainer`.
"""

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.errors import Forbidden, Unauthenticated, Unavailable
from app.keys.tables import ApiKey
from app.news import News

log = logging.getLogger(__name__)

CHANNEL = "refit_keys"
# A revocation is seen at once by NOTIFY, and after this many seconds without it.
FRESH_SECONDS = 1.0
# Who guesses keys makes Postgres read them no more often than this.
PATIENCE_SECONDS = 0.1


class Role(StrEnum):
    VIEWER = "viewer"
    REPORTER = "reporter"
    PREDICTOR = "predictor"
    TRAINER = "trainer"
    OPERATOR = "operator"
    ADMIN = "admin"


# What a role may do besides its own: an operator who reloads must also see and trigger.
INCLUDES: dict[Role, frozenset[Role]] = {
    Role.VIEWER: frozenset(),
    Role.REPORTER: frozenset(),
    Role.PREDICTOR: frozenset(),
    Role.TRAINER: frozenset({Role.VIEWER}),
    Role.OPERATOR: frozenset({Role.TRAINER, Role.VIEWER, Role.PREDICTOR, Role.REPORTER}),
    Role.ADMIN: frozenset(Role),
}


@dataclass(frozen=True)
class Principal:
    """Whoever calls. `str(principal)` is the actor in every record."""

    id: str
    name: str
    roles: frozenset[Role]

    def may(self, role: Role) -> bool:
        return any(role == own or role in INCLUDES[own] for own in self.roles)

    def __str__(self) -> str:
        return f"{self.name} ({self.id})"


# With REFIT_AUTH=off, which is refused beyond loopback, everybody on this machine is the administrator.
NOBODY_ASKED = Principal("local", "local", frozenset({Role.ADMIN}))


def digest_of(secret: str) -> str:
    """sha256 is enough: the secret is 256 random bits, not a password that could be guessed."""
    return hashlib.sha256(secret.encode()).hexdigest()


class KeyRing:
    """All live keys in memory, by id: no request waits for Postgres, and while it is away the keys go on to work."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions
        self._keys: dict[str, tuple[str, Principal]] = {}
        self._read_at = float("-inf")
        self._catching_up = asyncio.Lock()

    async def follow(self, news: News) -> None:
        """Reads the keys again at every word of a change, and each second without one; for ever."""
        while True:
            try:
                await self._read()
            except (SQLAlchemyError, OSError) as error:
                log.warning("could not read the keys (%s); those in memory go on to work", error)
            await news.wait(CHANNEL, FRESH_SECONDS)

    async def principal_of(self, key: str) -> Principal:
        """Raises Unauthenticated for a key that is malformed, unknown or revoked; which of them is not told."""
        _, _, rest = key.partition("refit_")
        id, _, secret = rest.partition("_")
        if id not in self._keys:
            await self._read_once_more()
        known_digest, principal = self._keys.get(id, ("", NOBODY_ASKED))
        if not hmac.compare_digest(known_digest, digest_of(secret)):
            remedy = "Ask an admin for `refit keys create`."
            raise Unauthenticated("This key is not known, or was revoked.", remedy=remedy)
        return principal

    async def _read_once_more(self) -> None:
        """A key may have been made a moment ago. However many ask with unknown keys, the table is read rarely."""
        asked_at = time.monotonic()
        async with self._catching_up:
            if self._read_at >= asked_at:
                return
            await asyncio.sleep(self._read_at + PATIENCE_SECONDS - asked_at)
            try:
                await self._read()
            except (SQLAlchemyError, OSError) as error:
                raise Unavailable("The keys cannot be read: Postgres is away.", remedy="Try again soon.") from error

    async def _read(self) -> None:
        began = time.monotonic()
        async with self._sessions() as session:
            rows = await session.scalars(select(ApiKey).where(ApiKey.revoked_at.is_(None)))
            self._keys = {
                row.id: (row.secret_sha256, Principal(row.id, row.name, frozenset(Role(r) for r in row.roles)))
                for row in rows
            }
            self._read_at = began


async def authenticate(request: Request) -> Principal:
    if request.app.state.settings.auth == "off":
        return NOBODY_ASKED
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    key = key.strip() if scheme.lower() == "bearer" else request.headers.get("X-API-Key", "")
    if not key:
        raise Unauthenticated("A key is needed.", remedy="Send it as `Authorization: Bearer refit_…`.")
    keys: KeyRing = request.app.state.keys
    return await keys.principal_of(key)


def _requires(role: Role) -> Callable[[Request], Awaitable[Principal]]:
    async def principal_with_role(request: Request) -> Principal:
        principal = await authenticate(request)
        if not principal.may(role):
            raise Forbidden(
                f"This needs the role {role}; the key {principal.id} has {', '.join(sorted(principal.roles))}."
            )
        return principal

    return principal_with_role


Viewer = Annotated[Principal, Depends(_requires(Role.VIEWER))]
Reporter = Annotated[Principal, Depends(_requires(Role.REPORTER))]
Predictor = Annotated[Principal, Depends(_requires(Role.PREDICTOR))]
Trainer = Annotated[Principal, Depends(_requires(Role.TRAINER))]
Operator = Annotated[Principal, Depends(_requires(Role.OPERATOR))]
Admin = Annotated[Principal, Depends(_requires(Role.ADMIN))]
