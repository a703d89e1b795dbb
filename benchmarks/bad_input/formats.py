"""Arrow streams and npy arrays that are broken, lie about themselves, or hold what no prediction takes."""

import io
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.bad_input.case import Case, Header, only
from benchmarks.bad_input.routes import MIXED, NUMERIC
from benchmarks.bad_input.rows import ANSWERED, MIXED_ROW, MOST_ROWS, REFUSED, TOO_MANY, WIDTH

ARROW: Header = (b"Content-Type", b"application/vnd.apache.arrow.stream")
NPY: Header = (b"Content-Type", b"application/x-npy")
ARROW_CODES = frozenset({"invalid_arrow", "invalid_instances", "unreadable_rows"})
NPY_CODES = frozenset({"invalid_npy", "invalid_instances"})

Columns = dict[str, Any]


def stream(columns: Columns, names: list[str] | None = None, **options: Any) -> bytes:
    """The columns as an Arrow stream; `names` rename them, also to the same one."""
    table = pa.table({name: pa.array(column) for name, column in columns.items()})
    table = table.rename_columns(names) if names else table
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def npy(array: npt.NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def shaped(shape: str, type: str = "<f4") -> str:
    return f"{{'descr': '{type}', 'fortran_order': False, 'shape': {shape}}}"


def header(text: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """An npy file whose header is `text`, true or not."""
    told = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(told)) + told + data


def _npz() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, rows=FLOATS)
    return file.getvalue()


ROW: Columns = {name: [value] for name, value in MIXED_ROW.items()}
FLOATS = np.full((3, WIDTH), 0.5, np.float32)
LARGE = 2**40


class Marked(pa.ExtensionType):  # type: ignore[misc]  # pyarrow ships no types
    """An extension type, which a reader could be made to run code for."""

    def __init__(self) -> None:
        super().__init__(pa.float64(), "zq.marked")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"zq"


def _extended() -> bytes:
    return stream(ROW | {"age": pa.ExtensionArray.from_storage(Marked(), pa.array([1.0]))})


def _swapped(body: bytes, old: bytes, new: bytes) -> bytes:
    assert old in body
    return body.replace(old, new)


ARROWS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "JSON": lambda: b'{"instances": [["@mark@"]]}',
    "rubbish": lambda: b"@mark@" * 100,
    "zero bytes": lambda: bytes(1_024),
    "an npy array": lambda: npy(FLOATS),
    "an Arrow file": lambda: b"ARROW1\0\0" + stream(ROW),
    "a stream without its last half": lambda: stream(ROW)[: len(stream(ROW)) // 2],
    "a stream without its first bytes": lambda: stream(ROW)[3:],
    "a stream of a schema alone": lambda: stream({name: [] for name in ROW}),
    "a first message of 2^31 bytes": lambda: b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    "a first message of negative length": lambda: b"\xff\xff\xff\xff\x00\x00\x00\x80" + bytes(64),
    "a column less": lambda: stream({name: ROW[name] for name in ("age", "spend", "plan")}),
    "a column more": lambda: stream(ROW | {"nobody_knows_this": [1]}),
    "a column with a strange name": lambda: stream(ROW | {"<zq>": [1]}),
    "a column twice": lambda: stream(ROW | {"other": [1]}, [*ROW, "age"]),
    "text for a number": lambda: stream(ROW | {"age": ["zq"]}),
    "booleans for a number": lambda: stream(ROW | {"age": [True]}),
    "lists for a number": lambda: stream(ROW | {"age": [[1.0]]}),
    "structs for a number": lambda: stream(ROW | {"age": [{"zq": 1.0}]}),
    "bytes for a text": lambda: stream(ROW | {"plan": [b"\xff\xfe"]}),
    "infinity for a number": lambda: stream(ROW | {"age": [float("inf")]}),
    "a number beyond 32 bits": lambda: stream(ROW | {"age": [1e300]}),
    "maps for a text": lambda: stream(ROW | {"plan": pa.array([[("zq", 1)]], pa.map_(pa.string(), pa.int64()))}),
    "a union for a number": lambda: stream(
        ROW | {"age": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1.0])])}
    ),
    "an extension type": _extended,
    "text that is no UTF-8": lambda: _swapped(stream(ROW), b"basic", b"\xff\xfe\xfd\xfc\xfb"),
    "lz4 buffers": lambda: stream(ROW, compression="lz4"),
    "zstd buffers": lambda: stream(ROW, compression="zstd"),
    "a compressed bomb": lambda: stream({name: np.zeros(10**6) for name in ROW}, compression="zstd"),
    "compressed buffers that lie": lambda: _swapped(
        stream({name: np.zeros(777) for name in ROW}, compression="zstd"),
        struct.pack("<q", 777 * 8), struct.pack("<q", LARGE),
    ),
    "a batch that lies about its rows": lambda: _swapped(
        stream({name: np.arange(777.0) for name in ROW}), struct.pack("<q", 777), struct.pack("<q", LARGE)
    ),
    "buffers that lie about their length": lambda: _swapped(
        stream({name: np.arange(777.0) for name in ROW}), struct.pack("<q", 777 * 8), struct.pack("<q", LARGE)
    ),
}  # fmt: skip
ARROWS_FINE: dict[str, Callable[[], bytes]] = {
    "a dictionary column": lambda: stream(ROW | {"plan": pa.array(["basic"]).dictionary_encode()}),
    "nulls": lambda: stream({name: pa.nulls(2, pa.array(column).type) for name, column in ROW.items()}),
    "whole numbers": lambda: stream(ROW | {"age": [41], "spend": pa.array([1], pa.uint8())}),
    "columns in another order": lambda: stream(dict(reversed(ROW.items()))),
}
NPYS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "JSON": lambda: b'{"instances": [["@mark@"]]}',
    "the magic alone": lambda: b"\x93NUMPY",
    "rubbish behind the magic": lambda: b"\x93NUMPY\x01\x00@mark@" * 20,
    "a version that is none": lambda: header(shaped("(1, 30)"), bytes(120), b"\x09\x00"),
    "an array without its last byte": lambda: npy(FLOATS)[:-1],
    "an array and a byte more": lambda: npy(FLOATS) + b"\0",
    "an array without its header": FLOATS.tobytes,
    "an array cut in its header": lambda: npy(FLOATS)[:40],
    "two arrays": lambda: npy(FLOATS) * 2,
    "a zip of arrays": _npz,
    "a pickle": lambda: b"\x80\x04cposix\nsystem\n(S'true'\ntR.",
    "objects": lambda: npy(np.array([["zq"] * WIDTH], dtype=object), allow_pickle=True),
    "text": lambda: npy(np.full((1, WIDTH), "zq")),
    "bytes": lambda: npy(np.full((1, WIDTH), b"zq")),
    "booleans": lambda: npy(np.ones((1, WIDTH), np.bool_)),
    "complex numbers": lambda: npy(np.ones((1, WIDTH), np.complex64)),
    "times": lambda: npy(np.zeros((1, WIDTH), "datetime64[s]")),
    "spans of time": lambda: npy(np.zeros((1, WIDTH), "timedelta64[s]")),
    "records": lambda: npy(np.zeros((1, WIDTH), [("zq", "f4")])),
    "void": lambda: npy(np.zeros((1, WIDTH), "V4")),
    "no rows": lambda: npy(np.zeros((0, WIDTH), np.float32)),
    "no columns": lambda: npy(np.zeros((3, 0), np.float32)),
    "a column less": lambda: npy(FLOATS[:, 1:]),
    "a column more": lambda: npy(np.ones((3, WIDTH + 1), np.float32)),
    "one dimension": lambda: npy(FLOATS[0]),
    "three dimensions": lambda: npy(FLOATS.reshape(3, 3, 10)),
    "no dimension": lambda: npy(np.array(0.5, np.float32)),
    "32 dimensions": lambda: npy(np.ones((1,) * 32, np.float32)),
    "infinity": lambda: npy(np.full((1, WIDTH), np.inf, np.float32)),
    "a number beyond 32 bits": lambda: npy(np.full((1, WIDTH), 1e300)),
    "a shape that lies": lambda: header(shaped(f"({LARGE}, 30)"), bytes(120)),
    "a shape beyond 64 bits": lambda: header(shaped(f"({10**30}, 30)")),
    "a negative shape": lambda: header(shaped("(-1, -30)"), bytes(120)),
    "a shape of fractions": lambda: header(shaped("(1.0, 30)"), bytes(120)),
    "a shape of truths": lambda: header(shaped("(True, 30)"), bytes(120)),
    "a shape of no numbers at all": lambda: header(shaped("'zq'"), bytes(120)),
    "a type that is none": lambda: header(shaped("(1, 30)", "@mark@"), bytes(120)),
    "a type of a gigabyte": lambda: header(shaped("(1, 30)", "|V1000000000")),
    "a header with a key more": lambda: header("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 30), 'x': 1}"),
    "a header that is code": lambda: header("__import__('os').system('true')", bytes(120)),
    "a header of 60,000 brackets": lambda: _deep(60_000),
    "a header of 9,000 brackets": lambda: _deep(9_000),
}  # fmt: skip
NPYS_FINE: dict[str, Callable[[], bytes]] = {
    "Fortran order": lambda: npy(np.asfortranarray(FLOATS)),
    "64-bit numbers": lambda: npy(FLOATS.astype(np.float64)),
    "numbers of the other byte order": lambda: npy(FLOATS.astype(">f4")),
    "whole numbers": lambda: npy(np.ones((2, WIDTH), np.int16)),
    "halves": lambda: npy(FLOATS.astype(np.float16)),
    "NaN, which is missing": lambda: npy(np.full((2, WIDTH), np.nan, np.float32)),
}


def cases() -> Iterator[Case]:
    for name, made in ARROWS.items():
        yield _case(f"Arrow: {name}", ARROW, MIXED, made(), REFUSED, ARROW_CODES)
    for name, made in ARROWS_FINE.items():
        yield _case(f"Arrow: {name}", ARROW, MIXED, made(), ANSWERED)
    for name, made in NPYS.items():
        yield _case(f"npy: {name}", NPY, NUMERIC, made(), REFUSED, NPY_CODES)
    for name, made in NPYS_FINE.items():
        yield _case(f"npy: {name}", NPY, NUMERIC, made(), ANSWERED)
    yield _case("npy for a model with categories", NPY, MIXED, npy(FLOATS), REFUSED, NPY_CODES)
    many, rows = frozenset({"too_many_rows"}), np.zeros((MOST_ROWS + 1, WIDTH), np.float32)
    yield _case("npy: rows beyond the limit", NPY, NUMERIC, npy(rows), TOO_MANY, many)
    columns = {name: np.zeros(MOST_ROWS + 1) for name in ROW}
    yield _case("Arrow: rows beyond the limit", ARROW, MIXED, stream(columns), TOO_MANY, many)
    yield from _queries()


def _queries() -> Iterator[Case]:
    """Model and slot of a binary body stand in the query."""
    body, predict = npy(FLOATS), only("POST /predict/batch")
    told = {
        b"model=@mark@": (404, "model_not_found"),
        b"model=%00": (404, "model_not_found"),
        b"model=%FF": (404, "model_not_found"),
        b"slot=active": (422, "model_ambiguous"),
        b"model=": (422, "model_ambiguous"),
        b"model=tumours&slot=@mark@": (422, "invalid"),
        b"model=tumours&slot=Active": (422, "invalid"),
        b"model=tumours&slot=standby": (409, "no_standby_version"),
    }
    for query, (status, code) in told.items():
        name, codes = f"npy for ?{query.decode()}", frozenset({code})
        yield Case(name, frozenset({status}), codes, predict, content_type=NPY, body=body, query=query)


def _case(
    name: str, kind: Header, model: str, body: bytes, statuses: frozenset[int], codes: frozenset[str] = frozenset()
) -> Case:
    query = f"model={model}".encode()
    predict = only("POST /predict/batch")
    return Case(name, statuses, codes, predict, content_type=kind, query=query, body=body, tells=(b"zq",))


def _deep(brackets: int) -> bytes:
    told = b"[" * brackets + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(told)) + told
