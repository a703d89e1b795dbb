"""All live keys in memory: who calls is known without asking Postgres, and a revoked key is refused within a second.

A key reads `refit_<id>_<secret>`; only the sha256 of its secret is kept.
"""

import asyncio
import hashlib
import hmac
import logging
import time

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.auth.roles import NOBODY_ASKED, Principal, Role
from app.auth.tables import ApiKey
from app.errors import Unauthenticated, Unavailable
from app.news import News

log = logging.getLogger(__name__)

CHANNEL = "refit_keys"
# A revocation is seen at once by NOTIFY, and after this many seconds without it.
FRESH_SECONDS = 1.0
# Who guesses keys makes Postgres read them no more often than this.
PATIENCE_SECONDS = 0.1


def digest_of(secret: str) -> str:
    """sha256 is enough: the secret is 256 random bits, not a password that could be guessed."""
    return hashlib.sha256(secret.encode()).hexdigest()


class KeyRing:
    """The live keys by id. No request waits for Postgres, and while it is away the keys go on to work."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions
        self._keys: dict[str, tuple[str, Principal]] = {}
        self._verified: dict[str, Principal] = {}
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
        if verified := self._verified.get(key):
            return verified
        prefix, _, rest = key.partition("_")
        id, _, secret = rest.partition("_") if prefix == "refit" else ("", "", "")
        if id not in self._keys:
            await self._read_once_more()
        known_digest, principal = self._keys.get(id, ("", NOBODY_ASKED))
        if not hmac.compare_digest(known_digest, digest_of(secret)):
            remedy = "Ask an admin for `refit keys create`."
            raise Unauthenticated("This key is not known, or was revoked.", remedy=remedy)
        self._verified[key] = principal
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
            # Whoever was verified by the keys of before is verified again.
            self._verified = {}
            self._read_at = began
