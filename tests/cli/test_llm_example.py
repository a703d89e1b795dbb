"""The language model that README walks through comes with all it needs, and every setting of such models is told."""

import re
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from app.cli.models import _read
from app.data import snapshots, sources
from app.data.sources import Reading
from app.definitions.schemas import Definition
from app.settings import Settings
from benchmarks.llm import tiny
from workers.llm.effective import effective
from workers.llm.params import LlmParams

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
NOTHING = Reading(session=None, model="tutor")  # type: ignore[arg-type] # files need no database
README = (ROOT / "README.md").read_text()


def walked() -> dict[str, Any]:
    return _read(EXAMPLES / "llm-cpu.yaml")["tutor"]


async def taken(tmp_path: Path, told: dict[str, Any]) -> dict[str, int]:
    """Rows on each side of the split of the snapshot that a training would take."""
    definition = Definition.model_validate(told)
    table = await sources.find("file").read(definition.data, NOTHING)
    version = await snapshots.take("tutor", table, definition, store=tmp_path, previous=None, job_id=None)
    return cast("dict[str, int]", version.counts)


async def test_it_ships_with_rows_enough_to_be_judged_by(tmp_path: Path) -> None:
    told = walked()
    told["data"]["path"] = told["data"]["path"].replace("*.jsonl", "first.jsonl")
    first = await taken(tmp_path, told)
    assert first["holdout"] >= Definition.model_validate(told).gate.min_rows
    assert min(first["train"], first["validation"]) > 0


async def test_what_is_copied_beside_them_are_new_rows_of_the_same_kind(tmp_path: Path) -> None:
    told = walked()
    rows = EXAMPLES / "llm"
    for name in ("answers/first.jsonl", "more.jsonl"):
        (tmp_path / Path(name).name).write_text((rows / name).read_text())
    told["data"]["path"] = str(tmp_path / "*.jsonl")
    lines = sum(len((rows / name).read_text().splitlines()) for name in ("answers/first.jsonl", "more.jsonl"))
    assert sum((await taken(tmp_path, told)).values()) == lines


async def test_its_pairs_are_pairs(tmp_path: Path) -> None:
    told = walked()
    data = told["preference"]["data"]
    assert sum((await taken(tmp_path, {"type": "llm", "data": data} | {"split": told["split"]})).values()) > 0


def test_its_base_is_the_one_that_the_readme_builds_and_can_be_taught(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base = walked()["training"]["base_model"]
    assert f"python -m benchmarks.llm.tiny {base}" in README
    built: dict[str, Any] = {}
    monkeypatch.setattr(tiny, "build", lambda folder, *, words=False: built.update(folder=folder, words=words))
    monkeypatch.setattr(tiny, "right", lambda folder: 1.0)
    tiny.main([base])
    assert built == {"folder": Path(base), "words": True}


def test_without_what_says_tiny_the_presets_values_are_trained_with() -> None:
    lines = (EXAMPLES / "llm-cpu.yaml").read_text().splitlines()
    told = yaml.safe_load("\n".join(line for line in lines if not line.endswith("# tiny")))["tutor"]["training"]
    asked = effective(LlmParams.model_validate(told))
    assert (asked.learning_rate, asked.preference.learning_rate, asked.batch_size, asked.lora.r) == (2e-4, 5e-6, 1, 8)


def test_files_that_the_readme_names_are_there() -> None:
    assert [name for name in re.findall(r"examples/[\w/.-]+\w", README) if not (ROOT / name).exists()] == [
        "examples/breast-cancer.csv",  # written by a command beside it
        "examples/breast-cancer.csv",
    ]


def test_the_readme_tells_of_each_setting_of_language_models() -> None:
    names = list(Settings.model_fields)
    ours = names[names.index("llama_cpp_dir") : names.index("counting")]
    assert [name for name in ours if f"| `REFIT_{name.upper()}` |" not in README] == []
