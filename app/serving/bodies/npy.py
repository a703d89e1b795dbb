"""`application/x-npy`: one array (n, columns) as `numpy.save` writes it. NaN is a missing value.

The header is read by numpy's own reader, which evaluates literals only; object arrays, which would be pickles, are
refused by their dtype before anything of them is read.
"""

import io
import math

import numpy as np

from app.errors import Invalid
from app.runtimes import Batch
from app.runtimes.rows import numbers_to_batch
from app.serving.target import Target

MEDIA_TYPE = "application/x-npy"
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read(body: bytes, target: Target) -> Batch:
    """Raises Invalid `invalid_npy` or `invalid_instances`, TooLarge."""
    file = io.BytesIO(body)
    try:
        shape, by_columns, dtype = HEADERS[np.lib.format.read_magic(file)](file)
    except Exception:  # noqa: BLE001 - whatever numpy stumbles over, this is no header that it has written
        raise _invalid("The body is not an array as numpy.save writes it.") from None
    if dtype.kind not in "fiu":
        raise _invalid("The array must hold numbers.")
    if len(shape) != 2:
        raise _invalid(f"The array has {len(shape)} dimensions, expected 2: rows and columns.")
    if any(type(side) is not int or side < 0 for side in shape):
        raise _invalid("The array's shape is not made of counts.")
    if len(body) - file.tell() != math.prod(shape) * dtype.itemsize:
        raise _invalid("The array's data is not as long as its header says.")
    target.expect(shape[0])
    numbers = np.frombuffer(body, dtype, offset=file.tell())
    return numbers_to_batch(numbers.reshape(shape, order="F" if by_columns else "C"), target.version.schema)


def _invalid(message: str) -> Invalid:
    remedy = "Send numpy.save(file, rows) of a float32 array (rows, columns), or application/json."
    return Invalid(message, code="invalid_npy", remedy=remedy)
