"""Rows that a version was trained on are known again among those that judge."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from app.data import leaks
from app.data.snapshots import load, path_of
from app.data.tables import DataVersion
from app.definitions.schemas import Definition
from app.errors import Invalid
from tests.data.test_snapshots import rows, source, taken

GROWN = {"validation": 0.15, "holdout": 0.4}


def holdout_of(store: Path, version: DataVersion, definition: Definition) -> pa.Table:
    found = load(store, version, definition)
    return found.rows.filter(pc.equal(found.split, "holdout"))


def trained_on(store: Path, version: DataVersion, definition: Definition) -> set[Any]:
    found = load(store, version, definition)
    return set(found.rows.filter(pc.is_in(found.split, leaks.LEARNT_FROM))["x"].to_pylist())


@pytest.mark.parametrize("data", [{}, {"key": None, "time": None}, {"key": None}])
async def test_a_holdout_that_grows_into_what_was_trained_on_is_seen(tmp_path: Path, data: dict[str, Any]) -> None:
    store, before = tmp_path / "store", source(tmp_path, rows(300), **data)
    old = await taken(tmp_path, before)
    grown = source(tmp_path, rows(300), GROWN, **data)
    new = await taken(tmp_path, grown, old)
    holdout = holdout_of(store, new, grown)
    mask = leaks.seen(holdout, new, old, store)
    assert isinstance(mask, np.ndarray)
    assert 0 < mask.sum() < len(mask)
    learnt = trained_on(store, old, before)
    assert [x in learnt for x in holdout["x"].to_pylist()] == mask.tolist()


async def test_what_any_of_a_chain_was_trained_on_counts_and_one_unknown_makes_all_unknown(tmp_path: Path) -> None:
    store = tmp_path / "store"
    old = await taken(tmp_path, source(tmp_path, rows(300)))
    grown = source(tmp_path, rows(300), GROWN)
    new = await taken(tmp_path, grown, old)
    holdout = holdout_of(store, new, grown)
    alone, chain = (leaks.seen_by_any(holdout, new, versions, store) for versions in ([new], [new, old]))
    by_old = leaks.seen(holdout, new, old, store)
    assert isinstance(alone, np.ndarray)
    assert isinstance(chain, np.ndarray)
    assert not alone.any()
    assert chain.any()
    assert (chain == by_old).all()
    assert "no record" in str(leaks.seen_by_any(holdout, new, [new, None, old], store))


@pytest.mark.parametrize("split", [{}, {"by": "time"}])
@pytest.mark.parametrize("data", [{}, {"key": None}, {"key": None, "time": "@row"}])
async def test_the_split_alone_lets_nobody_see_what_judges(
    tmp_path: Path, split: dict[str, Any], data: dict[str, Any]
) -> None:
    store, before = tmp_path / "store", source(tmp_path, rows(300), split, **data)
    old = await taken(tmp_path, before)
    after = source(tmp_path, rows(400), split, **data)
    new = await taken(tmp_path, after, old)
    for version in (old, new):
        mask = leaks.seen(holdout_of(store, new, after), new, version, store)
        assert isinstance(mask, np.ndarray)
        assert not mask.any()


async def test_a_row_whose_time_was_changed_is_known_by_its_key(tmp_path: Path) -> None:
    store, by_time = tmp_path / "store", {"by": "time"}
    old = await taken(tmp_path, source(tmp_path, rows(300), by_time))
    changed = rows(400)
    changed[5]["t"] = 133  # was trained on, and is the newest now
    after = source(tmp_path, changed, by_time)
    new = await taken(tmp_path, after, old)
    holdout = holdout_of(store, new, after)
    mask = leaks.seen(holdout, new, old, store)
    assert isinstance(mask, np.ndarray)
    assert holdout.filter(pa.array(mask))["id"].to_pylist() == [5]


async def test_where_the_rows_are_gone_it_says_so(tmp_path: Path) -> None:
    store, definition = tmp_path / "store", source(tmp_path, rows(300))
    old = await taken(tmp_path, definition)
    after = source(tmp_path, rows(400))
    new = await taken(tmp_path, after, old)
    holdout = holdout_of(store, new, after)
    assert leaks.seen(holdout, new, None, store) == "there is no record of the data version that it was trained on"
    path_of(store, old.digest).write_bytes(b"changed")
    assert "does not match its digest" in str(leaks.seen(holdout, new, old, store))
    path_of(store, old.digest).unlink()
    assert "cannot be read" in str(leaks.seen(holdout, new, old, store))


async def test_rows_that_are_known_by_something_else_are_not_compared(tmp_path: Path) -> None:
    store, definition = tmp_path / "store", source(tmp_path, rows(300))
    old = await taken(tmp_path, source(tmp_path, rows(300), key=None, time=None))
    new = await taken(tmp_path, definition)
    found = leaks.seen(holdout_of(store, new, definition), new, old, store)
    assert "known by other columns" in str(found)


async def test_what_tells_rows_apart_and_what_slices_is_kept_where_it_is_no_feature(tmp_path: Path) -> None:
    """A region may be no feature by law; a candidate may all the same not lose in one."""
    store, first = tmp_path / "store", source(tmp_path, rows(300), key=None, time=None)
    old = await taken(tmp_path, first)
    sliced = first.model_copy(update={"gate": first.gate.model_validate({"slices": [
        {"column": "city", "criteria": {"f1": {"max_drop": 0.02}}}]})})  # fmt: skip
    later = sliced.model_copy(update={"data": sliced.data.model_copy(update={"ignore": ["id", "city"]})})
    new = await taken(tmp_path, later, old)
    found = load(store, new, later)
    assert found.features == ("x", "t")
    assert {"id", "city"} <= set(found.rows.column_names)
    assert isinstance(leaks.seen(holdout_of(store, new, later), new, old, store), np.ndarray)


@pytest.mark.parametrize(("column", "code"), [("ctiy", "column_missing"), ("when", "column_type")])
async def test_a_slice_that_cuts_nothing_is_refused_before_anything_is_trained(
    tmp_path: Path, column: str, code: str
) -> None:
    content = [row | {"when": datetime(2026, 1, 1, tzinfo=UTC)} for row in rows(300)]
    definition = source(tmp_path, content, ignore=["when"])
    gate = definition.gate.model_validate({"slices": [{"column": column, "criteria": {"f1": {"max_drop": 0.1}}}]})
    with pytest.raises(Invalid, match=r"gate\.slices names the column") as refused:
        await taken(tmp_path, definition.model_copy(update={"gate": gate}))
    assert refused.value.code == code
