"""What a version goes back to, and all that it was trained on."""

from typing import Any

from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.data.tables import DataVersion
from app.registry.lineage import learnt_from, lineage
from app.registry.tables import ModelVersion
from app.settings import Settings
from app.training import state
from tests.factories import candidate, claim, define, trigger


async def made(session: AsyncSession, config: Settings, base: int | None, data: str) -> int:
    await trigger(session, config, "fraud")
    told = candidate() | {"details": {"base": base}, "data_version": data}
    number = await state.complete(session, await claim(session), told)
    assert number is not None
    return number


async def test_it_is_the_chain_of_bases_and_nothing_else(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud")
    for base, data in ((None, "a"), (1, "b"), (None, "c"), (2, "d"), (4, "d")):
        await made(session, config, base, data)
    assert [version.number for version in await lineage(session, "fraud", 5)] == [5, 4, 2, 1]
    assert [version.number for version in await lineage(session, "fraud", 3)] == [3]


async def test_what_they_were_trained_on_is_told_once_and_what_has_no_record_is_none(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud")
    for base, data in ((None, "a"), (1, "b"), (2, "b")):
        await made(session, config, base, data)
    empty: dict[str, Any] = {"dropped": {}, "labels": [], "columns": [], "split": {}, "source": {}, "counts": {}}
    values = {"model": "fraud", "digest": "b", "rows": 1, "duplicates": 0, "bytes": 1}
    await session.execute(insert(DataVersion).values(values | empty))
    newest = await session.get_one(ModelVersion, ("fraud", 3))
    found = await learnt_from(session, newest)
    assert [version.digest if version else None for version in found] == ["b", None]


async def test_details_that_name_each_other_end(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud")
    for base in (None, 1):
        await made(session, config, base, "a")
    await session.execute(text("""UPDATE model_versions SET details = '{"base": 2}' WHERE number = 1"""))
    assert [version.number for version in await lineage(session, "fraud", 2)] == [2, 1]
