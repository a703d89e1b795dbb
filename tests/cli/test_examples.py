"""The definitions in examples/ are valid, and one of them has every setting that there is."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from app.cli.models import _read
from app.data import sources
from app.definitions.schemas import Definition
from app.gate.criteria import Slice
from app.monitoring import monitors
from app.monitoring.monitors import MonitorOptions
from workers import pipeline
from workers.pipelines.classifier import ClassifierParams

EXAMPLES = Path(__file__).parents[2] / "examples"
EVERY = EXAMPLES / "every-setting.yaml"
FILES = sorted(EXAMPLES.glob("*.yaml"))
DEFINITIONS = [pytest.param(d, id=f"{file.name}:{name}") for file in FILES for name, d in _read(file).items()]


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_each_example_is_a_definition(definition: dict[str, Any]) -> None:
    valid = Definition.model_validate(definition)
    pipeline.find(valid.type).params.model_validate(valid.training)


def test_the_readme_names_each_example() -> None:
    readme = (EXAMPLES / "README.md").read_text()
    assert all(f"`{file.name}`" in readme for file in FILES)


def test_one_example_has_every_setting() -> None:
    definitions = yaml.safe_load(EVERY.read_text())
    shown = {path for definition in definitions.values() for path in paths_of(definition)}
    options = (f"data.{name}" for source in sources.names() for name in sources.find(source).Options.model_fields)
    types = map(pipeline.find, pipeline.names())
    params = (f"training.{name}" for type in types for name in type.params.model_fields)
    missing = {*settings_of(Definition), *options, *params} - shown
    assert {name for name in missing if not name.startswith("gate.slices.*.criteria.*.")} == set()  # as gate.criteria


def test_the_example_has_every_setting_of_every_monitor() -> None:
    shown = _read(EVERY)["fraud"]["monitors"].values()
    of_all = {name for name in MonitorOptions.model_fields if name != "kind"}
    for kind in monitors.kinds():
        [told] = [each for each in shown if each["kind"] == kind]
        assert set(monitors.find(kind).Options.model_fields) - told.keys() <= of_all
    assert of_all <= {name for told in shown for name in told}


def test_it_explains_every_setting() -> None:
    of_the_first, _, _ = EVERY.read_text().partition("# The other sources")
    settings = [line for line in of_the_first.splitlines() if re.match(r" +\w+: ", line)]
    like_the_one_before = ("auc_roc", "recall")
    assert [s for s in settings if "#" not in s and not s.strip().startswith(like_the_one_before)] == []


def test_what_it_calls_a_default_is_the_default() -> None:
    """All values but those whose comment says what the default is instead."""
    first = _read(EVERY)["fraud"]
    minimal = Definition.model_validate({"type": first["type"], "data": first["data"]}).model_dump()
    for room in ("split", "prerequisites", "promotion"):
        assert first[room] == minimal[room]
    assert first["watch"] | {"slow_seconds": None} == minimal["watch"]
    declared = first["monitors"]
    unless: dict[str, Any] = {"versions": {}, "head": None, "columns": None, "max_column_psi": None}
    for name, monitor in Definition.model_validate({"type": first["type"], "data": first["data"]}).watched.items():
        assert monitor.model_dump() | declared[name] | unless == monitor.model_dump() | unless
    for name in ("min_rows", "min_rows_per_class", "resamples", "confidence", "leak_check"):
        assert first["gate"][name] == minimal["gate"][name]
    [shown] = first["gate"]["slices"]
    assert shown == Slice(column=shown["column"], criteria=shown["criteria"]).model_dump(exclude_none=True)
    params = ClassifierParams().model_dump()
    assert first["training"] | {"learning_rate": None} == params


def settings_of(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """`split.by`, `gate.min_rows`, … of a model and of the models within it."""
    for name, field in model.model_fields.items():
        yield path + name
        for inner in _models(field.annotation):
            if inner.__module__ != sources.__name__:
                many = get_origin(field.annotation) in (dict, list)
                yield from settings_of(inner, f"{path}{name}." + ("*." if many else ""))


def paths_of(value: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, inner in value.items():
        yield path + name
        if isinstance(inner, dict):
            yield from paths_of(inner, f"{path}{name}.")
            yield from paths_of(inner, f"{path}*.")
        for one in inner if isinstance(inner, list) else ():
            yield from paths_of(one, f"{path}{name}.*.") if isinstance(one, dict) else ()


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, dict, list):
        for inner in get_args(annotation):
            yield from _models(inner)
