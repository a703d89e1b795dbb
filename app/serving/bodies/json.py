"""JSON: `{"model", "slot", "instances", "probabilities"}`. Decoding is what a prediction costs, so plain numbers have
short cuts.

Lists go by simdjson straight into a buffer, objects by msgspec into rows of floats: a half and two thirds of what a
parse into Python values takes. A short cut gives the batch that the thorough way would give, or none: whatever is
unusual in a body (missing values, names, faults) is left to the thorough way, which reads cell by cell and names what
is wrong.
"""

import re
import threading
from itertools import chain
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import simdjson

from app.errors import Invalid, RefitError
from app.runtimes.rows import to_batch, to_float32, without_names
from app.serving.conversations import conversations_of
from app.serving.schemas import PredictRequest, decode
from app.serving.target import SLOTS, Asked, Find, Target

MEDIA_TYPE = "application/json"

# A parser keeps the memory of its largest document, so each thread keeps one for the small ones only.
KEPT_BYTES = 2**20  # as many as are decoded on the loop
# What a body has that a short cut reads.
PLAIN = frozenset({"model", "slot", "instances"})
# The beginning of a body whose rows are objects, as clients write it: the model, if it is named, stands first.
OBJECTS = re.compile(rb'{\s*(?:"model"\s*:\s*"([^"\\]*)"\s*,\s*)?"instances"\s*:\s*\[\s*{')

_kept = threading.local()


def read(body: bytes, find: Find) -> Asked:
    """Raises Invalid, never echoing the body; TooLarge; and what `find` raises."""
    return (_objects if OBJECTS.match(body) else _lists)(body, find) or _thoroughly(body, find)


def _thoroughly(body: bytes, find: Find) -> Asked:
    asked = decode(body)
    target = find(asked.model, asked.slot)
    target.expect(len(asked.instances))
    if target.version.generator is not None:
        return _prompts(target, asked)
    batch = to_batch(asked.instances, target.version.schema)
    return Asked(target, batch, asked.probabilities)


def _prompts(target: Target, asked: PredictRequest) -> Asked:
    if asked.probabilities:
        errors = [{"field": "probabilities", "message": "is for versions that answer with labels"}]
        raise Invalid("The request is not valid: probabilities.", errors=errors)
    rows = conversations_of(asked.instances)
    return Asked(target, without_names(np.empty((len(rows), 0), np.float32)), conversations=rows)


class Lists(NamedTuple):
    model: str | None
    slot: str
    numbers: npt.NDArray[np.float64]  # (rows, columns)


def _lists(body: bytes, find: Find) -> Asked | None:
    try:
        asked = _parse(body)
    except (ValueError, TypeError, RuntimeError):  # no JSON, not numbers only, numbers beyond 64 bits
        return None
    if asked is None:
        return None
    target = find(asked.model, asked.slot)
    target.expect(len(asked.numbers))
    return _with_batch(target, asked.numbers)


def _parse(body: bytes) -> Lists | None:
    """Nothing of the parser's document outlives this call: it could not read the next one."""
    # Neither a byte order mark nor a key that stands there twice is for a short cut to judge.
    if body[:1] != b"{":
        return None
    document = _parser(body).parse(body)
    if not isinstance(document, simdjson.Object):
        return None
    keys = list(document.keys())
    if len(keys) != len(PLAIN.intersection(keys)) or "instances" not in keys:
        return None
    # To ask for a key that is missing costs a C++ exception, as much as an inference.
    rows = document["instances"]
    model = document["model"] if "model" in keys else None
    slot = document["slot"] if "slot" in keys else "active"
    if not isinstance(model, str | None) or slot not in SLOTS or not isinstance(rows, simdjson.Array):
        return None
    # The buffer has no shape, so that is looked at apart: every row as long as the first, and no brackets but theirs.
    count = len(rows)
    widths = {len(row) for row in rows}  # type: ignore[arg-type]  # what has no length raises TypeError
    brackets = np.count_nonzero(np.frombuffer(body, np.uint8) == ord("["))
    if len(widths) != 1 or brackets != count + 1:
        return None
    numbers = np.frombuffer(rows.as_buffer(of_type="d"), np.float64)
    return Lists(model, slot, numbers.reshape(count, widths.pop()))


def _parser(body: bytes) -> simdjson.Parser:
    if len(body) > KEPT_BYTES:
        return simdjson.Parser()
    parser: simdjson.Parser | None = getattr(_kept, "parser", None)
    if parser is None:
        parser = _kept.parser = simdjson.Parser()
    return parser


def _objects(body: bytes, find: Find) -> Asked | None:
    """The decoder belongs to a version, so the model is guessed from the beginning and then looked at again."""
    guess = OBJECTS.match(body)
    assert guess is not None
    try:
        model = guess[1].decode() if guess[1] else None
        decoder = find(model, "active").version.objects
        asked = decoder.decode(body) if decoder else None
    except (RefitError, ValueError):  # the thorough way says it better
        return None
    if asked is None or asked.model != model:
        return None
    target = find(asked.model, asked.slot)
    target.expect(len(asked.instances))
    if target.version.objects is not decoder:
        return None
    columns = len(target.version.schema.columns)
    cells = chain.from_iterable(map(msgspec.structs.astuple, asked.instances))
    numbers = np.fromiter(cells, np.float64, len(asked.instances) * columns)
    return _with_batch(target, numbers.reshape(-1, columns))


def _with_batch(target: Target, numbers: npt.NDArray[np.float64]) -> Asked | None:
    """None where the version reads other columns, or a number is beyond float32."""
    schema = target.version.schema
    if numbers.shape[1] != len(schema.columns) or len(schema.numeric) != len(schema.columns) or not len(numbers):
        return None
    narrow = to_float32(numbers)
    return None if np.isinf(narrow).any() else Asked(target, without_names(narrow))
