"""The first admin key: from the database alone, while there is none."""

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.auth.keyring import KeyRing
from app.auth.roles import Role
from app.auth.service import create_first_key, create_key, list_keys, revoke_key
from app.errors import Refused

Sessions = async_sessionmaker[AsyncSession]


async def first_key(sessions: Sessions) -> str:
    async with sessions() as session, session.begin():
        return await create_first_key(session, actor="test")


async def test_a_service_without_keys_gets_an_admin(sessions: Sessions) -> None:
    key = await first_key(sessions)
    assert (await KeyRing(sessions).principal_of(key)).may(Role.ADMIN)


async def test_while_an_admin_key_lives_there_is_no_other_first_one(sessions: Sessions) -> None:
    id = (await first_key(sessions)).split("_")[1]
    with pytest.raises(Refused, match=id) as refused:
        await first_key(sessions)
    assert refused.value.code == "admin_key_exists"


async def test_keys_of_lesser_roles_do_not_stand_in_the_way(session: AsyncSession, sessions: Sessions) -> None:
    async with session.begin():
        await create_key(session, name="ci", roles=[Role.TRAINER], actor="test")
    assert await first_key(sessions)


async def test_who_revoked_the_last_admin_key_is_not_locked_out(session: AsyncSession, sessions: Sessions) -> None:
    id = (await first_key(sessions)).split("_")[1]
    async with session.begin():
        await revoke_key(session, id, actor="test")
    assert await first_key(sessions)


async def test_of_many_that_ask_at_once_one_gets_it(session: AsyncSession, sessions: Sessions) -> None:
    answers = await asyncio.gather(*(first_key(sessions) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(answer, Refused) for answer in answers) == 7
    assert len(await list_keys(session)) == 1
