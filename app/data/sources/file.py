"""Rows from files on the disk that API and workers share: CSV, Parquet or JSON lines, one file or a glob of them."""

import asyncio
import glob
import hashlib
import re
from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from typing import Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from pydantic import Field, field_validator, model_validator

from app.data.columns import has_times, missing, require
from app.data.sources import Reading, SourceOptions
from app.data.sources._rows import unify
from app.data.times import newer, times_of
from app.errors import Invalid

Format = Literal["csv", "parquet", "jsonl"]
SUFFIXES: dict[str, Format] = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".json": "jsonl"}
LONGEST_ROW = 16 << 20  # of JSON, in bytes


class Options(SourceOptions):
    source: Literal["file"]
    path: str = Field(description="absolute; may be a glob such as /data/2024-*.csv.gz")
    format: Format | None = Field(None, description="unset: by the suffix, before .gz")
    delimiter: str = Field(",", min_length=1, max_length=1, description="of CSV")

    @field_validator("path")
    @classmethod
    def is_absolute(cls, path: str) -> str:
        if not Path(path).is_absolute():
            raise ValueError(
                "a relative path means another file in every process; write it absolute "
                "(`refit models apply` does so, from the folder of the YAML file)"
            )
        return path

    @model_validator(mode="after")
    def format_is_known(self) -> Self:
        if self.format is None and Path(self.path.removesuffix(".gz")).suffix not in SUFFIXES:
            raise ValueError(f"say format: csv, parquet or jsonl; the suffix is none of {', '.join(SUFFIXES)}")
        return self

    @property
    def effective_format(self) -> Format:
        return self.format or SUFFIXES[Path(self.path.removesuffix(".gz")).suffix]


async def read(options: Options, reading: Reading) -> pa.Table:  # noqa: ARG001 - files need nothing of Refit
    return await asyncio.to_thread(_read, options)


async def count(options: Options, reading: Reading) -> int:
    """Labelled rows newer than `reading.since` by the time column; without one, than the number of rows it is."""
    return await asyncio.to_thread(_count, options, reading.since)


async def mark(options: Options) -> str | None:
    """Of the names, sizes and times of writing of all files; what stands in them is not read."""
    return await asyncio.to_thread(_mark, options)


def _mark(options: Options) -> str | None:
    try:
        found = [(path, Path(path).stat()) for path in _paths(options)]
    except OSError:
        return None
    told = "".join(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0" for path, stat in found)
    return hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest() if found else None


def _paths(options: Options) -> list[str]:
    """The files of the glob in the order of their names."""
    found = glob.glob(options.path, recursive=True)  # noqa: PTH207 - Path.glob refuses an absolute pattern
    paths = [path for path in sorted(found) if Path(path).is_file()]
    if not paths and Path(options.path).is_file():  # a name with brackets in it
        return [options.path]
    return paths


def _read(options: Options, only: Sequence[str] | None = None) -> pa.Table:
    paths = _paths(options)
    if not paths:
        raise Invalid(
            f"No file matches {options.path}.",
            code="file_not_found",
            remedy="Look for a typo; API and workers must both see the file.",
        )
    return unify([(path, _read_file(path, options, only)) for path in paths])


def _count(options: Options, since: str | None) -> int:
    time = options.time if has_times(options) else None
    columns = [*options.sent_columns, *([time] if time else [])]
    table = _read(options, columns)
    require(columns, table.column_names)
    lacks = pc.or_ if options.chat else pc.and_
    unlabelled = reduce(lacks, (missing(table[name]) for name in options.sent_columns))
    labelled = table.filter(pc.invert(unlabelled))
    if since is None:
        return int(labelled.num_rows)
    if time is None:
        return max(0, int(labelled.num_rows) - int(float(since)))
    return int(newer(times_of(labelled[time], time), since).sum())


def _read_file(path: str, options: Options, only: Sequence[str] | None) -> pa.Table:
    """Every column; those of `only` where they are all there. Raises Invalid `file_unreadable` naming file and row."""
    reader = READERS[options.effective_format]
    try:
        return reader(path, options, only, True)
    except KeyError:
        return _read_file(path, options, None)
    except pa.ArrowInvalid:
        return _read_without_threads(path, options)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _read_without_threads(path: str, options: Options) -> pa.Table:
    """Fails as it did with threads, and now the message has the number of the row."""
    try:
        return READERS[options.effective_format](path, options, None, False)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> Invalid:
    if str(error).startswith("Empty "):
        return Invalid(f"{path} is empty.", code="file_unreadable", remedy="Write at least one row to it.")
    # Arrow quotes the row after its complaint; what stands in a row is nobody's business here.
    why = re.sub(r"(columns, got \d+|invalid value).*", r"\1", str(error), flags=re.DOTALL)
    return Invalid(
        f"{path} cannot be read: {why.strip().rstrip('.')}.",
        code="file_unreadable",
        remedy="Mend the file, or say what it is with data.format and data.delimiter.",
    )


def _csv(path: str, options: Options, only: Sequence[str] | None, threads: bool) -> pa.Table:
    convert = pa.csv.ConvertOptions(
        # A key is a name: "007" must not become 7 until the day an "A7" turns the column into text.
        column_types={options.key: pa.string()} if options.key else None,
        include_columns=only,
        strings_can_be_null=True,
    )
    table = pa.csv.read_csv(
        path,
        read_options=pa.csv.ReadOptions(use_threads=threads),
        parse_options=pa.csv.ParseOptions(delimiter=options.delimiter, newlines_in_values=True),
        convert_options=convert,
    )
    for field in table.schema:
        if pa.types.is_binary(field.type):
            raise pa.ArrowInvalid(f"column {field.name!r} is not UTF-8 text")
    return table


def _parquet(path: str, options: Options, only: Sequence[str] | None, threads: bool) -> pa.Table:  # noqa: ARG001
    with pq.ParquetFile(path) as file:
        if not set(only or ()) <= set(file.schema_arrow.names):
            raise KeyError(only)
        return file.read(columns=only, use_threads=threads)


def _jsonl(path: str, options: Options, only: Sequence[str] | None, threads: bool) -> pa.Table:  # noqa: ARG001
    table = pa.json.read_json(path, read_options=pa.json.ReadOptions(use_threads=threads, block_size=LONGEST_ROW))
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            raise pa.ArrowInvalid(f"column {name!r} is not UTF-8 text") from None
    return table


Reader = Callable[[str, Options, Sequence[str] | None, bool], pa.Table]
READERS: dict[Format, Reader] = {"csv": _csv, "parquet": _parquet, "jsonl": _jsonl}
