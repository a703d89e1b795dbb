"""Which row is which: 64 bits that are the same for the same row in every data version, on every machine.

A row is known by its key; without one by its features, so that identical rows share a side of the split.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.data.columns import kind_of
from app.errors import Refused

Identities = npt.NDArray[np.uint64]

MISSING = b"\0missing"  # the eight bytes that a value counts as which is not there
MISSING_WORD = np.uint64(int.from_bytes(MISSING, "little"))
ROWS_AT_ONCE = 1 << 16
WHOLE = 2.0**53  # beyond it a float64 cannot tell integers apart


@dataclass(frozen=True)
class Identified:
    """identities (n,); `hashed` {column: kind} is null where rows have a key."""

    identities: Identities
    hashed: dict[str, str] | None

    def of(self, rows: npt.NDArray[np.bool_]) -> "Identified":
        return replace(self, identities=self.identities[rows])


def identify(table: pa.Table, key: str | None, features: Sequence[str], fixed: Mapping[str, str] | None) -> Identified:
    """Every row's identity. `fixed` are the columns that the model's data versions have hashed so far.

    Raises Refused `split_would_leak` where one of those has gone or changed its kind: rows would change sides.
    """
    if key is not None:
        return Identified(of_keys(table[key]), None)
    names = fixed or features
    kinds: dict[str, str] = {n: kind_of(table.schema.field(n).type) for n in names if n in table.column_names}
    for name, kind in (fixed or {}).items():
        found = kinds.get(name, "gone")
        if found == "gone" or (found != kind and "empty" not in (found, kind)):
            raise Refused(
                f"Rows have no key and are known by their features: {name!r} is {found}, not {kind}.",
                code="split_would_leak",
                remedy="Restore the column in the source, or define a new model, best with data.key.",
            )
        kinds[name] = kind if found == "empty" else found
    # By name, because neither sources nor jsonb keep the order of columns.
    return Identified(of_rows(table.select(sorted(kinds))), kinds)


def of_keys(column: pa.ChunkedArray) -> Identities:
    """(n,) the blake2b hash of each key's text. 7, 7.0 and "7" are the same key."""
    texts = key_texts(column)
    parts = [texts.slice(start, ROWS_AT_ONCE) for start in range(0, len(texts), ROWS_AT_ONCE)]
    return _joined(_hashes(None if t is None else t.encode() for t in part.to_pylist()) for part in parts)


def of_rows(table: pa.Table) -> Identities:
    """(n,) the blake2b hash of each row's values: text, and numbers as the float32 that models read."""
    parts = [table.slice(start, ROWS_AT_ONCE) for start in range(0, table.num_rows, ROWS_AT_ONCE)]
    return _joined(_of_words(np.column_stack([_words(column) for column in part.columns])) for part in parts)


def key_texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Keys as text: whole numbers without a point, moments in ISO form to the microsecond, text as it is."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", tz=column.type.tz), safe=False).cast(pa.string())
    if not pa.types.is_floating(column.type):
        return column.cast(pa.string())
    known = pc.if_else(pc.is_nan(column), None, column)
    whole = pc.and_(pc.equal(pc.floor(known), known), pc.less(pc.abs(known), WHOLE))
    integers = pc.if_else(whole, known, None).cast(pa.int64()).cast(pa.string())
    return pc.coalesce(integers, known.cast(pa.string()))


def _words(column: pa.ChunkedArray) -> Identities:
    """(n,) one 64-bit word a value."""
    if pa.types.is_null(column.type):
        return np.full(len(column), MISSING_WORD)
    if pa.types.is_string(column.type):
        encoded = column.combine_chunks().dictionary_encode()
        words = _hashes(text.encode() for text in [*encoded.dictionary.to_pylist(), ""])
        return np.where(
            pc.is_valid(column).to_numpy(), words[pc.fill_null(encoded.indices, 0).to_numpy()], MISSING_WORD
        )
    with np.errstate(over="ignore"):
        numbers = pc.fill_null(column.cast(pa.float64(), safe=False), np.nan).to_numpy().astype(np.float32)
    words = (numbers + np.float32(0)).view(np.uint32).astype(np.uint64)  # -0.0 becomes 0.0
    return np.where(np.isnan(numbers), MISSING_WORD, words)


def _of_words(words: Identities) -> Identities:
    """(n, k) words → (n,) one a row."""
    rows, width = memoryview(words.tobytes()), words.shape[1] * 8
    return _hashes(rows[start : start + width] for start in range(0, len(rows), width))


def _hashes(contents: Iterable[bytes | memoryview | None]) -> Identities:
    digests = [MISSING if c is None else blake2b(c, digest_size=8).digest() for c in contents]
    hashes: Identities = np.frombuffer(b"".join(digests), "<u8")
    return hashes


def _joined(parts: Iterable[Identities]) -> Identities:
    joined: Identities = np.concatenate([np.empty(0, np.uint64), *parts])
    return joined
