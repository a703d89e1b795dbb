import asyncio
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.data import snapshots
from app.data.snapshots import SnapshotCorrupt, load, new_rows, path_of, take
from app.data.sources import Reading, find
from app.data.tables import DataVersion
from app.definitions.schemas import Definition
from app.errors import Invalid

READING = Reading(session=None, model="fraud")  # type: ignore[arg-type] # files need no database
REAL = Path(__file__).resolve().parents[3] / "shared/data"


def rows(n: int) -> list[dict[str, Any]]:
    return [{"id": i, "x": i / 2, "city": f"c{i % 7}", "y": i % 2, "t": i // 3} for i in range(n)]


def source(folder: Path, content: list[dict[str, Any]], split: dict[str, Any] | None = None, **data: Any) -> Definition:
    path = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(content), path)
    options = {"source": "file", "path": str(path), "label": "y", "key": "id", "time": "t", **data}
    return Definition.model_validate({"type": "classifier", "data": options, "split": split or {}})


async def taken(tmp_path: Path, definition: Definition, previous: DataVersion | None = None) -> DataVersion:
    table = await find(definition.data.source).read(definition.data, READING)
    return await take("fraud", table, definition, store=tmp_path / "store", previous=previous, job_id=7)


async def refusal(tmp_path: Path, definition: Definition) -> Invalid:
    with pytest.raises(Invalid) as refused:
        await taken(tmp_path, definition)
    return refused.value


async def test_a_data_version_is_named_by_the_sha256_of_its_file(tmp_path: Path) -> None:
    version = await taken(tmp_path, source(tmp_path, rows(300)))
    path = path_of(tmp_path / "store", version.digest)
    snapshots.verify(path, version.digest)
    assert (version.model, version.job_id, version.rows, version.bytes) == ("fraud", 7, 300, path.stat().st_size)
    assert version.columns[0] == {"name": "y", "type": "int64"}
    assert sum(version.counts.values()) == 300
    assert version.labels == [{"column": "y", "label": label, "rows": 150} for label in (0, 1)]
    assert version.high_water == "99"


async def test_equal_content_is_an_equal_file_whatever_the_order_of_the_source(tmp_path: Path) -> None:
    content = rows(300) + rows(20)
    first = await taken(tmp_path, source(tmp_path, content, key=None))
    random.Random(1).shuffle(content)
    again = await taken(tmp_path, source(tmp_path, content, key=None))
    assert again.digest == first.digest
    assert [p.name for p in (tmp_path / "store/snapshots").iterdir()] == [f"{first.digest}.parquet"]


async def test_what_was_written_is_read_back_in_time_order_with_its_sides(tmp_path: Path) -> None:
    content = rows(300)
    random.Random(1).shuffle(content)
    definition = source(tmp_path, content, categorical=["city"])
    version = await taken(tmp_path, definition)
    found = load(tmp_path / "store", version, definition)
    assert found.rows["id"].to_pylist() == list(range(300))
    assert (found.labels, found.features, found.categorical) == (("y",), ("x", "city"), frozenset({"city"}))
    assert found.time_ordered
    assert found.split.type == pa.string()
    assert {s: found.split.to_pylist().count(s) for s in version.counts} == version.counts


async def test_a_named_data_version_trains_on_exactly_that(tmp_path: Path) -> None:
    older = await taken(tmp_path, source(tmp_path, rows(300)))
    definition = source(tmp_path, rows(900))
    newer = await taken(tmp_path, definition, older)
    assert newer.digest != older.digest
    assert load(tmp_path / "store", older, definition).rows["id"].to_pylist() == list(range(300))


async def test_a_file_that_was_changed_is_never_trained_on(tmp_path: Path) -> None:
    definition = source(tmp_path, rows(300))
    version = await taken(tmp_path, definition)
    path = path_of(tmp_path / "store", version.digest)
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(SnapshotCorrupt, match="does not match its digest"):
        load(tmp_path / "store", version, definition)
    path.unlink()
    with pytest.raises(SnapshotCorrupt, match="No such file"):
        load(tmp_path / "store", version, definition)


async def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        await taken(tmp_path, source(tmp_path, rows(300)))
    assert not list((tmp_path / "store/snapshots").iterdir())


async def test_rows_without_label_or_key_are_left_out_and_counted(tmp_path: Path) -> None:
    content = rows(300)
    content[3]["y"] = content[4]["y"] = content[5]["id"] = None
    version = await taken(tmp_path, source(tmp_path, content))
    assert (version.rows, version.dropped) == (297, {"label": 2, "key": 1})


async def test_rows_without_a_time_cannot_be_split_by_it(tmp_path: Path) -> None:
    content = rows(300)
    content[3]["t"] = None
    assert (await taken(tmp_path, source(tmp_path, content))).dropped == {"label": 0, "key": 0}
    assert (await taken(tmp_path, source(tmp_path, content, {"by": "time"}))).dropped["time"] == 1


async def test_keys_that_stand_twice_are_counted(tmp_path: Path) -> None:
    assert (await taken(tmp_path, source(tmp_path, [*rows(300), *rows(5)]))).duplicates == 5


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"label": "yy"}, "data.label names the column 'yy', which is not there."),
        ({"key": "idd"}, "data.key names the column 'idd', which is not there."),
        ({"time": "tt"}, "data.time names the column 'tt', which is not there."),
        ({"features": ["x", "town"]}, "data.features names the column 'town', which is not there."),
        ({"ignore": ["citty"]}, "data.ignore names the column 'citty', which is not there."),
        ({"categorical": ["zip"]}, "data.categorical names the column 'zip', which is not there."),
    ],
)
async def test_a_column_that_is_not_there_is_named_with_its_role(tmp_path: Path, options: Any, why: str) -> None:
    refused = await refusal(tmp_path, source(tmp_path, rows(30), **options))
    assert (refused.code, refused.message) == ("column_missing", why)


async def test_the_nearest_column_is_suggested(tmp_path: Path) -> None:
    refused = await refusal(tmp_path, source(tmp_path, rows(30), ignore=["citty"]))
    assert refused.remedy == "The nearest are: city."


async def test_a_feature_that_no_model_reads_is_refused_with_the_way_out(tmp_path: Path) -> None:
    content = [row | {"tags": ["a"]} for row in rows(30)]
    refused = await refusal(tmp_path, source(tmp_path, content))
    assert refused.code == "column_type"
    assert "'tags' is list<" in refused.message
    assert "data.ignore" in str(refused.remedy)
    await taken(tmp_path, source(tmp_path, [row | {"tags": ["a"]} for row in rows(300)], ignore=["tags"]))


async def test_a_time_that_cannot_order_is_refused(tmp_path: Path) -> None:
    refused = await refusal(tmp_path, source(tmp_path, rows(30), time="city", features=["x"]))
    assert refused.code == "time_unreadable"


@pytest.mark.parametrize("content", [[], [row | {"y": None} for row in rows(30)]])
async def test_a_source_without_labelled_rows_is_too_little_data(tmp_path: Path, content: list[Any]) -> None:
    assert (await refusal(tmp_path, source(tmp_path, content))).code == "insufficient_data"


async def test_keys_held_out_by_time_are_remembered_in_the_file(tmp_path: Path) -> None:
    by_time = {"by": "time"}
    first = await taken(tmp_path, source(tmp_path, rows(300), by_time))
    late = rows(1000)
    late[290]["t"] = 0  # was held out; comes back as if it were old
    definition = source(tmp_path, late, by_time)
    second = load(tmp_path / "store", await taken(tmp_path, definition, first), definition)
    assert second.split[second.rows["id"].to_pylist().index(290)].as_py() == "retired"


async def test_new_rows_are_counted_since_the_high_water_mark(tmp_path: Path) -> None:
    for data in ({}, {"time": None}, {"time": "@row"}):
        first = await taken(tmp_path, source(tmp_path, rows(300), **data))
        definition = source(tmp_path, rows(330), **data)
        snapshot = load(tmp_path / "store", await taken(tmp_path, definition, first), definition)
        assert new_rows(snapshot, definition, first) == 30
        assert new_rows(snapshot, definition, None) == 330


async def test_two_workers_that_take_the_same_rows_write_one_file(tmp_path: Path) -> None:
    definition = source(tmp_path, rows(3000))
    versions = await asyncio.gather(*(taken(tmp_path, definition) for _ in range(8)))
    assert len({version.digest for version in versions}) == 1
    load(tmp_path / "store", versions[0], definition)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real data sets are not on this machine")
async def test_a_stream_without_key_or_time_is_split_by_its_order(tmp_path: Path) -> None:
    data = {"source": "file", "path": str(REAL / "elec2/electricity-lags.csv.gz"), "label": "class", "time": "@row"}
    definition = Definition.model_validate({"type": "classifier", "data": data, "split": {"by": "time"}})
    version = await taken(tmp_path, definition)
    assert version.counts == {"train": 31_684, "validation": 6_790, "holdout": 6_790, "retired": 0}
    found = load(tmp_path / "store", version, definition)
    assert np.all(np.diff(found.rows["day"].to_numpy()[:48]) >= 0)
