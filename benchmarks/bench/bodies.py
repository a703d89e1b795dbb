"""The same rows in each format that Refit reads."""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO

import numpy as np
import orjson
import pyarrow as pa

from benchmarks.peers import Request
from benchmarks.peers.model import MODEL_NAME

# n rows by name of the column.
Named = Sequence[Mapping[str, float]]
PATH = "/predict/batch"
LISTS, OBJECTS, ARROW, NPY = "JSON lists", "JSON objects", "Arrow", "x-npy"


def lists(rows: Named) -> Request:
    return Request(PATH, orjson.dumps({"model": MODEL_NAME, "instances": [list(row.values()) for row in rows]}))


def objects(rows: Named) -> Request:
    return Request(PATH, orjson.dumps({"model": MODEL_NAME, "instances": rows}))


def arrow(rows: Named) -> Request:
    """One record batch with a float32 column for each measure, as a data frame becomes one."""
    batch = pa.record_batch({name: pa.array([row[name] for row in rows], pa.float32()) for name in rows[0]})
    stream = BytesIO()
    with pa.ipc.new_stream(stream, batch.schema) as writer:
        writer.write_batch(batch)
    return Request(f"{PATH}?model={MODEL_NAME}", stream.getvalue(), "application/vnd.apache.arrow.stream")


def npy(rows: Named) -> Request:
    """A float32 array (n, columns)."""
    stream = BytesIO()
    np.save(stream, np.array([list(row.values()) for row in rows], np.float32))
    return Request(f"{PATH}?model={MODEL_NAME}", stream.getvalue(), "application/x-npy")


FORMATS: Mapping[str, Callable[[Named], Request]] = {LISTS: lists, OBJECTS: objects, ARROW: arrow, NPY: npy}
