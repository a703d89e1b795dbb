import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from app.data.sources import Reading, file, options_of
from app.errors import Invalid

NOTHING = Reading(session=None, model="fraud")  # type: ignore[arg-type] # files need no database
REAL = Path(__file__).resolve().parents[3] / "shared/data"


def options(path: Path | str, **more: Any) -> file.Options:
    found = options_of({"source": "file", "path": str(path), "label": "y", **more})
    assert isinstance(found, file.Options)
    return found


async def rows(path: Path | str, **more: Any) -> list[dict[str, Any]]:
    table = await file.read(options(path, **more), NOTHING)
    found: list[dict[str, Any]] = table.to_pylist()
    return found


async def refusal(path: Path | str, **more: Any) -> Invalid:
    with pytest.raises(Invalid) as refused:
        await file.read(options(path, **more), NOTHING)
    return refused.value


async def test_csv_jsonl_and_parquet_give_the_same_rows_plain_and_gzipped(tmp_path: Path) -> None:
    csv, jsonl = b"x,y\n1.5,a\n,b\n", b'{"x":1.5,"y":"a"}\n{"x":null,"y":"b"}\n'
    for name, content in {"d.csv": csv, "d.jsonl": jsonl, "d.json": jsonl}.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    pq.write_table(pa.table({"x": [1.5, None], "y": pa.array(["a", "b"]).dictionary_encode()}), tmp_path / "d.parquet")
    for suffix in ("csv", "csv.gz", "jsonl", "jsonl.gz", "json", "json.gz", "parquet"):
        assert await rows(tmp_path / f"d.{suffix}") == [{"x": 1.5, "y": "a"}, {"x": None, "y": "b"}]


async def test_the_files_of_a_glob_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for month, value in {"03": "0.5", "01": "1", "02": "2"}.items():
        (tmp_path / f"2024-{month}.csv").write_text(f"x,y\n{value},0\n")
    assert [row["x"] for row in await rows(tmp_path / "2024-*.csv")] == [1.0, 2.0, 0.5]


async def test_files_with_other_columns_are_refused_naming_file_and_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,0\n")
    (tmp_path / "b.csv").write_text("x,z\n1,0\n")
    refused = await refusal(tmp_path / "*.csv")
    assert refused.code == "columns_differ"
    assert "b.csv has no column 'y'" in refused.message


async def test_files_with_other_types_are_refused_naming_file_and_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,0\n")
    (tmp_path / "b.csv").write_text("x,y\nmany,0\n")
    refused = await refusal(tmp_path / "*.csv")
    assert "b.csv: column 'x' is string, and int64 before it" in refused.message


async def test_a_glob_that_matches_nothing_is_named(tmp_path: Path) -> None:
    refused = await refusal(tmp_path / "*.csv")
    assert (refused.code, refused.message) == ("file_not_found", f"No file matches {tmp_path}/*.csv.")


async def test_a_broken_row_is_named_by_its_number_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y\n1,0\nsecret,1,2\n")
    refused = await refusal(path)
    assert refused.code == "file_unreadable"
    assert refused.message == f"{path} cannot be read: CSV parse error: Row #3: Expected 2 columns, got 3."


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.csv", b"", "is empty"),
        ("a.jsonl", b"", "is empty"),
        ("a.csv", b"x,y\n\xff\xfe,1\n", "column 'x' is not UTF-8 text"),
        ("a.csv.gz", b"not gzip", "cannot be read"),
        ("a.parquet", b"not parquet", "cannot be read"),
        ("a.jsonl", b'{"y":1}\n{"y":', "row 1"),
        ("a.jsonl", b'[{"y":1}]', "object to array"),
        ("a.jsonl", b'{"y":1,"q":"caf\xe9?"}', "column 'q' is not UTF-8"),
        ("a.csv", b"y,y\n1,2\n", "column 'y' twice"),
    ],
)
async def test_an_unreadable_file_is_named_with_what_is_wrong(
    tmp_path: Path, name: str, content: bytes, why: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    refused = await refusal(path)
    assert str(path) in refused.message
    assert why in refused.message


async def test_a_key_of_digits_stays_a_name(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,y\n007,0\n")
    assert (await rows(path, key="id"))[0]["id"] == "007"


async def test_a_delimiter_and_quoted_newlines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('x;y\n"two\nlines";0\n')
    assert await rows(path, delimiter=";") == [{"x": "two\nlines", "y": 0}]


def test_a_relative_path_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValidationError, match="refit models apply"):
        options("data/a.csv")


def test_an_unknown_suffix_asks_for_the_format() -> None:
    with pytest.raises(ValidationError, match="say format"):
        options("/data/export")
    assert options("/data/export", format="csv").effective_format == "csv"


async def count(path: Path, since: str | None, **more: Any) -> int:
    return await file.count(options(path, **more), Reading(NOTHING.session, "fraud", since))


async def test_new_rows_are_counted_by_time_and_only_with_a_label(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t,x,y\n2024-01-01,1,0\n2024-01-02,1,1\n2024-01-03,1,\n2024-01-04,1,1\n")
    assert await count(path, None, time="t") == 3
    assert await count(path, "2024-01-01T00:00:00", time="t") == 2
    assert await count(path, "2", time="@row") == 1
    assert await count(path, "5") == 0


async def test_a_missing_column_is_named_with_the_nearest_when_counting(tmp_path: Path) -> None:
    for name in ("a.csv", "a.parquet"):
        path = tmp_path / name
        table = pa.table({"label_x": [1], "x": [1]})
        pq.write_table(table, path) if name.endswith("parquet") else path.write_text("label_x,x\n1,1\n")
        with pytest.raises(Invalid, match="'labelx'") as refused:
            await file.count(options(path, label="labelx"), NOTHING)
        assert refused.value.remedy == "The nearest are: label_x."


@pytest.mark.skipif(not REAL.is_dir(), reason="the real data sets are not on this machine")
@pytest.mark.parametrize(
    ("path", "more", "expected"),
    [
        ("elec2/electricity-lags.csv.gz", {"label": "class"}, 45_264),
        ("bank-marketing/bank-additional-full.csv.gz", {"label": "y", "delimiter": ";"}, 41_188),
        ("banking77/train.csv", {"label": "category"}, 10_003),
        ("gsm8k/train.jsonl.gz", {"label": "answer"}, 7_473),
    ],
)
async def test_real_files_are_read_whole(path: str, more: dict[str, Any], expected: int) -> None:
    table = await file.read(options(REAL / path, **more), NOTHING)
    assert table.num_rows == expected
    assert not table[more["label"]].null_count
