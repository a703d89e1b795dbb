"""`application/vnd.apache.arrow.stream`: record batches whose columns are found by name. Null and NaN are missing.

The bytes are a stranger's: no extension type is looked at, no buffer is unpacked (a few kilobytes could unfold to
gigabytes), and every offset is checked before it is followed.
"""

import struct
from typing import Any

import numpy.typing as npt
import pyarrow as pa
from flatbuffers import encode
from flatbuffers.number_types import UOffsetTFlags
from flatbuffers.table import Table

from app.errors import MOST_ERRORS, Invalid, told_name
from app.runtimes import Batch
from app.runtimes.rows import numbers_to_batch
from app.runtimes.table import to_batch
from app.serving.target import Target

MEDIA_TYPE = "application/vnd.apache.arrow.stream"

# Where the vtables of Message, DictionaryBatch and RecordBatch (Message.fbs of the Arrow format) keep these fields.
HEADER, DATA, COMPRESSION = 8, 6, 10
# What a writer that is closed puts behind its last message.
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


def read(body: bytes, target: Target) -> Batch:
    """Raises Invalid `invalid_arrow`, `invalid_instances` or `unreadable_rows`; TooLarge."""
    try:
        rows = _opened(body)
        names = rows.schema.names
    except (pa.ArrowException, OSError, ValueError, TypeError, struct.error, IndexError):
        raise _invalid("The body is not an Arrow stream, or not a whole one.") from None
    target.expect(rows.num_rows)
    if not rows.num_rows:
        raise Invalid("There are no instances to predict.", code="invalid_instances", errors=[], more=0)
    schema = target.version.schema
    if len(names) == 1 and pa.types.is_fixed_size_list(rows.schema.field(0).type):
        return numbers_to_batch(_matrix(_joined(rows).column(0)), schema)
    if unknown := [told_name(name) for name in names if name not in schema.names][:MOST_ERRORS]:
        raise _invalid(f"The stream has columns that this model has not: {', '.join(unknown)}.")
    if len(set(names)) < len(names):
        raise _invalid("The stream has several columns of one name.")
    if len(names) == len(schema.columns) == len(schema.numeric):
        ordered = rows if names == schema.numeric else rows.select(schema.numeric)
        if (numbers := _tensor(_joined(ordered))) is not None:
            return numbers_to_batch(numbers, schema)
    return to_batch(_as_table(rows), schema)


def _opened(body: bytes) -> pa.RecordBatch | pa.Table:
    """Every message is looked at before any is opened. One record batch, as a data frame becomes one, is the rule."""
    stream = pa.BufferReader(body)
    messages = list(pa.ipc.MessageReader.open_stream(stream))
    if stream.tell() != len(body) or not body.endswith(END_OF_STREAM):
        raise ValueError("cut off between two record batches, or followed by something else")
    for message in messages:
        _check(message)
    if [message.type for message in messages] == ["schema", "record batch"]:
        rows = pa.ipc.read_record_batch(messages[1], pa.ipc.read_schema(messages[0]))
    else:
        rows = pa.ipc.open_stream(body).read_all()
    rows.validate(full=True)
    return rows


def _joined(rows: pa.RecordBatch | pa.Table) -> pa.RecordBatch:
    return rows if isinstance(rows, pa.RecordBatch) else rows.combine_chunks().to_batches()[0]


def _as_table(rows: pa.RecordBatch | pa.Table) -> pa.Table:
    return rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])


def _tensor(rows: pa.RecordBatch) -> npt.NDArray[Any] | None:
    """All columns at once, null as NaN; None where one holds no numbers, or half floats stand beside others."""
    try:
        numbers: npt.NDArray[Any] = rows.to_tensor(null_to_nan=True).to_numpy()
    except (TypeError, pa.ArrowNotImplementedError):
        return None
    return numbers


def _matrix(rows: pa.FixedSizeListArray) -> npt.NDArray[Any]:
    """One column of lists of equal length is the array (n, columns) itself."""
    values = rows.flatten()
    if rows.null_count or not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        raise _invalid("A column of lists must hold numbers, and no row may be null.")
    matrix: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False).reshape(len(rows), -1)
    return matrix


def _check(message: pa.ipc.Message) -> None:
    """Raises Invalid for what is not to be opened, by the message's metadata alone."""
    metadata = message.metadata.to_pybytes()
    if message.type == "schema" and b"ARROW:extension:name" in metadata:
        raise _invalid("The stream has extension types.")
    if message.type != "schema" and _is_compressed(metadata, in_dictionary=message.type == "dictionary"):
        raise _invalid("The stream's buffers are compressed.")


def _is_compressed(metadata: bytes, *, in_dictionary: bool) -> bool:
    message = Table(metadata, encode.Get(UOffsetTFlags.packer_type, metadata, 0))
    batch = _child(message, HEADER)
    if in_dictionary:
        batch = _child(batch, DATA)
    return bool(batch.Offset(COMPRESSION))


def _child(table: Table, field: int) -> Table:
    place = table.Pos + table.Offset(field)
    return Table(table.Bytes, place + encode.Get(UOffsetTFlags.packer_type, table.Bytes, place))


def _invalid(message: str) -> Invalid:
    remedy = "Send an uncompressed stream of plain columns named like the model's, or application/json."
    return Invalid(message, code="invalid_arrow", remedy=remedy)
