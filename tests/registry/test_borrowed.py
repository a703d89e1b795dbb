"""What versions have put into an Ollama goes when no slot needs it."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.registry import artifacts, borrowed, swap
from app.registry.artifacts import Manifest
from app.registry.swap import Change
from app.runtimes.openai import load
from app.settings import Settings
from tests.factories import define, version
from tests.ggufs import tiny_card, write_artifact
from tests.ollama import running

UNNAMED = Manifest(format="openai", model_type="llm", data_version="d" * 64, code_revision="test", files={}, details={})


def published(store: Path, folder: Path, url: str, system: str) -> str:
    said = {"api": "ollama", "url": url, "model": None, "key": None}
    return artifacts.publish(
        store, write_artifact(folder, tiny_card(system_prompt=system), endpoint=said), UNNAMED
    ).digest


async def test_a_tag_stays_while_a_slot_needs_it_and_for_a_day_where_none_does(
    session: AsyncSession, config: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "blobs").mkdir()
    with running(tmp_path / "blobs") as (fake, url):
        tags = []
        await define(session, "assistant")
        for place, system in enumerate(("You are staged.", "You are not.")):
            digest = published(config.store, tmp_path / f"made{place}", url, system)
            number = await version(session, config, "assistant", format="openai", artifact=digest)
            loaded = load(artifacts.folder_of(config.store, digest))
            tags.append(loaded.upstream.model)
            loaded.close()
            if place == 0:
                await swap.stage(session, Change("assistant", "alice"), number)
        found = await borrowed.needed(session, config)
        assert found
        assert (found.places, found.tags) == ({borrowed.Place(url, None)}, {tags[0]})
        await borrowed.take_away(found)
        assert set(fake.models) == set(tags), "a candidate that is being judged stands in no slot"
        await borrowed.take_away(found._replace(since=found.since + timedelta(days=2)))
        assert set(fake.models) == {tags[0]}
    await borrowed.take_away(found)  # an Ollama that is away harms nobody


async def test_what_a_slot_needs_stays_also_where_another_version_calls_its_ollama_otherwise(
    session: AsyncSession, config: Settings, tmp_path: Path
) -> None:
    (tmp_path / "blobs").mkdir()
    with running(tmp_path / "blobs") as (fake, url):
        await define(session, "assistant")
        staged = published(config.store, tmp_path / "staged", url, "You are staged.")
        other = published(config.store, tmp_path / "other", url.replace("127.0.0.1", "localhost"), "You are not.")
        number = await version(session, config, "assistant", format="openai", artifact=staged)
        await version(session, config, "assistant", format="openai", artifact=other)
        await swap.stage(session, Change("assistant", "alice"), number)
        load(artifacts.folder_of(config.store, staged)).close()
        found = await borrowed.needed(session, config)
        assert found
        await borrowed.take_away(found._replace(since=found.since + timedelta(days=2)))
        assert set(fake.models) == found.tags


async def test_nothing_is_taken_away_while_a_version_in_a_slot_cannot_be_read(
    session: AsyncSession, config: Settings, tmp_path: Path
) -> None:
    await define(session, "assistant")
    staged = published(config.store, tmp_path / "staged", "http://127.0.0.1:1", "You are staged.")
    number = await version(session, config, "assistant", format="openai", artifact=staged)
    await swap.stage(session, Change("assistant", "alice"), number)
    folder = artifacts.folder_of(config.store, staged)
    away = folder.rename(tmp_path / "away")
    assert await borrowed.needed(session, config) is None
    away.rename(folder)
    found = await borrowed.needed(session, config)
    assert found
    assert len(found.tags) == 1
