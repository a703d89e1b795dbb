"""API keys: made once and shown once, listed without their secret, revoked for ever."""

import secrets
from collections.abc import Iterable, Sequence

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.keyring import CHANNEL, digest_of
from app.auth.roles import Role
from app.auth.tables import ApiKey
from app.db import clock, notify
from app.errors import NotFound, Refused
from app.events.record import record


async def create_key(session: AsyncSession, *, name: str, roles: Iterable[str], actor: str) -> str:
    """The whole key, `refit_<id>_<secret>`. It is not kept anywhere; who loses it makes another."""
    id, secret = secrets.token_hex(6), secrets.token_hex(32)
    named = sorted({Role(role) for role in roles})
    values = {"id": id, "name": name, "secret_sha256": digest_of(secret), "roles": named, "created_by": actor}
    await session.execute(insert(ApiKey).values(values))
    await record(session, kind="key.created", actor=actor, after=", ".join(named), evidence={"id": id, "name": name})
    await notify(session, CHANNEL, id)
    return f"refit_{id}_{secret}"


async def create_first_key(session: AsyncSession, *, actor: str) -> str:
    """An admin key for a service that has none. Raises Refused while one lives, whoever asks.

    Two who ask at once take turns: without the lock, both would find nothing.
    """
    await session.execute(text("LOCK TABLE api_keys IN SHARE ROW EXCLUSIVE MODE"))
    is_live_admin = ApiKey.revoked_at.is_(None) & ApiKey.roles.contains([Role.ADMIN])
    known = await session.scalar(select(ApiKey.id).where(is_live_admin).limit(1))
    if known is not None:
        raise Refused(
            f"There is an admin key already: {known}.",
            code="admin_key_exists",
            remedy="Use that one for `refit keys create`.",
        )
    return await create_key(session, name="admin", roles=[Role.ADMIN], actor=actor)


async def list_keys(session: AsyncSession) -> Sequence[ApiKey]:
    return (await session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.id))).all()


async def revoke_key(session: AsyncSession, id: str, *, actor: str) -> ApiKey:
    """Revoking twice changes nothing. Raises NotFound."""
    key: ApiKey | None = await session.scalar(
        update(ApiKey)
        .where(ApiKey.id == id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=clock(), revoked_by=actor)
        .returning(ApiKey)
    )
    if key is None:
        return await _known(session, id)
    await record(session, kind="key.revoked", actor=actor, evidence={"id": id, "name": key.name})
    await notify(session, CHANNEL, id)
    return key


async def _known(session: AsyncSession, id: str) -> ApiKey:
    key = await session.get(ApiKey, id)
    if key is None:
        raise NotFound("No key has this id.", code="key_not_found", remedy="`refit keys list` names them.")
    return key
