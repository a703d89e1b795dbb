"""Bodies → batches: each format gives the array that its rows are, the short cuts no other than the thorough way."""

import io
from dataclasses import dataclass
from json import dumps
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Invalid, NotFound, RefitError, TooLarge, UnsupportedMediaType
from app.runtimes.schema import Column, Head, InputSchema
from app.serving.bodies import arrow, json, npy, reader_of
from app.serving.loaded import Loaded
from app.serving.replica import Slots
from app.serving.target import Target

HEADS = (Head(name="y", labels=("no", "yes"), threshold=0.5),)
NUMBERS = InputSchema(
    columns=(Column(name="a", kind="numeric"), Column(name="b", kind="numeric")),
    heads=HEADS,
)
MIXED = InputSchema(
    columns=(Column(name="a", kind="numeric"), Column(name="c", kind="categorical")),
    heads=HEADS,
)


@dataclass
class OnlyASchema:
    """What a body's reader asks of a predictor."""

    schema: InputSchema
    is_quick: bool = True


def target(schema: InputSchema = NUMBERS, slot: str = "active") -> Target:
    predictor: Any = OnlyASchema(schema)
    version = Loaded(1, predictor, {"passed": True})
    return Target(Slots("fraud", "classifier", 1, version, version), slot, version, 100, slot)


KNOWN = target()


def find(model: str | None, slot: str) -> Target:
    if model not in (None, "fraud"):
        raise NotFound("No such model.")
    return KNOWN._replace(slot=slot)


def outcome(read: Any, body: bytes) -> Any:
    """What can be compared: the slot and the rows, or the error."""
    try:
        found = read(body, find)
    except RefitError as error:
        return error.problem()
    return None if found is None else (found[0].slot, repr(found[1].numeric.tolist()), found[1].categorical.shape)


numbers = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**70), 2**70), st.just(1e39))
cells = st.one_of(numbers, st.none(), st.booleans(), st.text(max_size=3), st.lists(numbers, max_size=2))
rows = st.one_of(
    st.lists(numbers, min_size=2, max_size=2),
    st.lists(cells, max_size=3),
    st.fixed_dictionaries({"a": numbers, "b": numbers}),
    st.dictionaries(st.sampled_from("abc"), cells),
    cells,
)
instances = st.one_of(
    st.lists(st.lists(numbers, min_size=2, max_size=2), min_size=1, max_size=4),
    st.lists(st.fixed_dictionaries({"a": numbers, "b": numbers}), min_size=1, max_size=4),
    st.lists(rows, max_size=4),
)
envelopes = st.fixed_dictionaries(
    {"instances": instances},
    optional={
        "model": st.sampled_from(["fraud", "other", "[", None, 1]),
        "slot": st.sampled_from(["active", "standby", "[", None]),
        "extra": st.none(),
    },
)


@settings(max_examples=300, deadline=None)
@given(envelopes, st.randoms(use_true_random=False))
def test_a_short_cut_reads_what_the_thorough_way_reads_or_nothing(envelope: dict[str, Any], order: Any) -> None:
    keys = list(envelope)
    order.shuffle(keys)
    body = dumps({key: envelope[key] for key in keys}).encode()
    thorough = outcome(json._thoroughly, body)
    assert outcome(json._lists, body) in (None, thorough)
    if json.OBJECTS.match(body):
        assert outcome(json._objects, body) in (None, thorough)
    assert outcome(json.read, body) == thorough


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [[1, 2.5], [3, 4]]}',
        b'{"model": "fraud", "slot": "standby", "instances": [[1, 2.5], [3, 4]]}',
        b'{"model": "fraud", "instances": [{"a": 1, "b": 2.5}, {"b": 4, "a": 3}]}',
        b'{"instances": [{"a": 1, "b": 2.5}, {"a": 3, "b": 4}], "slot": "active"}',
    ],
)
def test_plain_numbers_never_need_the_thorough_way(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json, "_thoroughly", None)
    for _ in range(2):  # the parser and the decoder serve the next request as well
        batch = json.read(body, find).batch
        assert batch.numeric.tolist() == [[1, 2.5], [3, 4]]
        assert batch.numeric.dtype == np.float32
        assert batch.categorical.shape == (2, 0)


@pytest.mark.parametrize(
    "bad",
    ["[[1,[2]]]", "[[1,2,3],[4]]", "[[[1],2]]", "[[1,2],[]]", "[[[1,2],[3,4]]]", "[1,2]", "[[1e39,1]]", "[[1,true]]"],
)
def test_a_buffer_that_would_fit_by_chance_is_no_batch(bad: str) -> None:
    with pytest.raises(Invalid) as refused:
        json.read(b'{"instances": %s}' % bad.encode(), find)
    assert refused.value.code == "invalid_instances"


def test_too_many_rows_are_refused_by_every_format() -> None:
    many = np.zeros((101, 2), np.float32)
    for read, body in ((npy.read, saved(many)), (arrow.read, stream(table(many)))):
        with pytest.raises(TooLarge):
            read(body, KNOWN)
    with pytest.raises(TooLarge):
        json.read(orjson.dumps({"instances": many.tolist()}), find)


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4", "<i2", "<u8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npy_body_is_the_array_itself(dtype: str, order: Any) -> None:
    rows = np.array([[1, 2], [3, 4], [5, 6]], dtype, order=order)
    batch = npy.read(saved(rows), KNOWN)
    assert batch.numeric.tolist() == rows.tolist()
    assert batch.numeric.flags.c_contiguous


def test_nan_in_a_binary_body_is_a_missing_value_and_infinity_is_named() -> None:
    assert np.isnan(npy.read(saved(np.array([[np.nan, 1]])), KNOWN).numeric[0, 0])
    with pytest.raises(Invalid) as refused:
        npy.read(saved(np.array([[0, 0], [0, np.inf]])), KNOWN)
    assert refused.value.details["errors"][0] | {"message": ""} == {"row": 1, "column": "b", "message": ""}


def header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"\0" * 16


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x93NUMPY",
        header("(2, 2)")[:-1],
        header("(2, 2)") + b"\0",
        header("(True, 4)"),
        header("(-2, -2)"),
        header("(4,)"),
        header("(10000000000, 2)"),
        header("(2, 1)", "'|O'"),
        header("(2, 1)", "'<U2'"),
        header("[" * 9_000),
        header("__import__('os').abort()"),
    ],
)
def test_an_npy_body_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        npy.read(body, KNOWN)
    assert refused.value.code == "invalid_npy"


def test_an_arrow_body_is_read_by_the_names_of_its_columns() -> None:
    told = pa.table({"b": pa.array([2, None], pa.int64()), "a": pa.array([1.5, 3.5])})
    batch = arrow.read(stream(told), KNOWN)
    assert batch.numeric[0].tolist() == [1.5, 2.0]
    assert np.isnan(batch.numeric[1, 1])


def test_an_arrow_body_may_come_in_several_record_batches() -> None:
    told = pa.concat_tables([pa.table({"a": [1.0], "b": [2.0]}), pa.table({"a": [3.0], "b": [4.0]})])
    assert arrow.read(stream(told), KNOWN).numeric.tolist() == [[1, 2], [3, 4]]


def test_an_arrow_body_may_mix_every_width_of_number() -> None:
    half = pa.array(np.array([1.5, np.nan], np.float16))
    batch = arrow.read(stream(pa.table({"a": half, "b": pa.array([1, None], pa.uint64())})), KNOWN)
    assert batch.numeric[0].tolist() == [1.5, 1]
    assert np.isnan(batch.numeric[1]).all()


def test_an_arrow_body_of_one_column_of_lists_is_the_array_itself() -> None:
    lists = pa.FixedSizeListArray.from_arrays(pa.array([1, 2, 3, 4], pa.float32()), 2)
    assert arrow.read(stream(pa.table({"rows": lists})), KNOWN).numeric.tolist() == [[1, 2], [3, 4]]


def test_an_arrow_body_holds_names_too_also_as_a_dictionary() -> None:
    told = pa.table({"a": [1.0, 2.0], "c": pa.array(["x", None]).dictionary_encode()})
    assert arrow.read(stream(told), target(MIXED)).categorical.tolist() == [["x"], [""]]


def broken() -> dict[str, bytes]:
    whole = stream(pa.table({"a": [1.0], "b": [2.0]}))
    extension = pa.table({"a": pa.array([b"0" * 16], pa.uuid()), "b": [1.0]})
    named_twice = pa.Table.from_arrays([pa.array([1.0])] * 3, ["a", "b", "b"])
    return {
        "nothing": b"",
        "text": b"not arrow",
        "the first half": whole[: len(whole) // 2],
        "no end": whole[: -len(arrow.END_OF_STREAM)],
        "a stream twice": whole + whole,
        "a name that is no text": stream(pa.table({"a": [1.0], "bbbb": [2.0]})).replace(b"bbbb", b"b\xff\xfe\xfd"),
        "compressed": stream(pa.table({"a": [0.0] * 9, "b": [0.0] * 9}), compression="zstd"),
        "an extension type": stream(extension),
        "a column too many": stream(pa.table({"a": [1.0], "b": [2.0], "a secret!": [3.0]})),
        "a column twice": stream(named_twice),
        "a column too few": stream(pa.table({"a": [1.0]})),
        "text where numbers belong": stream(pa.table({"a": [1.0], "b": ["x"]})),
        "a struct": stream(pa.table({"a": [1.0], "b": [{"secret": 1}]})),
        "no rows": stream(pa.table({"a": pa.array([], pa.float64()), "b": pa.array([], pa.float64())})),
    }


def test_an_arrow_body_that_does_not_fit_is_refused_and_not_told_back() -> None:
    for what, body in broken().items():
        with pytest.raises(Invalid) as refused:
            arrow.read(body, KNOWN)
        assert refused.value.code in ("invalid_arrow", "unreadable_rows", "invalid_instances"), what
        assert "secret" not in str(refused.value.problem()), what


def test_a_body_of_another_kind_is_refused_before_it_is_read() -> None:
    with pytest.raises(UnsupportedMediaType) as refused:
        reader_of({"type": "http", "headers": [(b"content-type", b"text/csv")], "query_string": b""})
    assert refused.value.code == "unsupported_media_type"


def test_a_query_does_not_choose_the_slot_of_a_json_body() -> None:
    with pytest.raises(Invalid) as refused:
        reader_of({"type": "http", "headers": [], "query_string": b"slot=standby"})
    assert refused.value.problem()["errors"][0]["field"] == "slot"


@pytest.mark.parametrize("told", [None, b"application/json", b"Application/JSON; charset=utf-8"])
def test_without_a_content_type_a_body_is_json(told: bytes | None) -> None:
    headers = [(b"content-type", told)] if told else []
    assert reader_of({"type": "http", "headers": headers, "query_string": b""}) is json.read


def test_a_binary_body_is_for_the_model_and_the_slot_of_the_query() -> None:
    asked: list[tuple[str | None, str]] = []

    def found(model: str | None, slot: str) -> Target:
        asked.append((model, slot))
        return find(model, slot)

    scope = {"type": "http", "headers": [(b"content-type", b"application/x-npy")]}
    body = saved(np.zeros((1, 2)))
    for query in (b"", b"model=fraud&slot=standby"):
        reader_of(scope | {"query_string": query})(body, found)
    assert asked == [(None, "active"), ("fraud", "standby")]
    with pytest.raises(Invalid):
        reader_of(scope | {"query_string": b"slot=previous"})(body, found)


def saved(rows: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, rows)
    return file.getvalue()


def table(rows: Any) -> pa.Table:
    return pa.table({name: rows[:, place] for place, name in enumerate("ab")})


def stream(told: pa.Table, compression: str | None = None) -> bytes:
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, told.schema, options=options) as writer:
        writer.write_table(told)
    return sink.getvalue()
