"""Body → rows for the version that answers. One file is one format, named by its content type.

A module here has `MEDIA_TYPE` and `read`. JSON names model and slot in the body; the binary formats hold rows alone,
and `?model=&slot=&probabilities=` name the rest.
"""

from collections.abc import Callable
from functools import partial
from urllib.parse import parse_qs

from starlette.types import Scope

from app.errors import Invalid, UnsupportedMediaType
from app.http import header
from app.runtimes import Batch
from app.serving.bodies import arrow, json, npy
from app.serving.target import SLOTS, Asked, Find, Target

Query = dict[str, list[str]]
Read = Callable[[bytes, Find], Asked]
BINARY = {module.MEDIA_TYPE: module.read for module in (arrow, npy)}


def reader_of(scope: Scope) -> Read:
    """How this request's body is read. No content type is JSON, as `curl --data` without a header would have it.

    Raises UnsupportedMediaType, and Invalid for a query that names no slot.
    """
    told = header(scope, b"content-type")
    media_type = told.partition(";")[0].strip().lower()
    query = parse_qs(scope["query_string"].decode("latin-1")) if scope["query_string"] else {}
    if media_type in ("", json.MEDIA_TYPE):
        _expect_none_of("model", "slot", "probabilities", query=query)
        return json.read
    if media_type not in BINARY:
        known = ", ".join([json.MEDIA_TYPE, *BINARY])
        raise UnsupportedMediaType("The body's content type is none of ours.", remedy=f"Send one of: {known}.")
    return partial(_read_binary, BINARY[media_type], query)


def _expect_none_of(*names: str, query: Query) -> None:
    if told := [name for name in names if name in query]:
        errors = [{"field": name, "message": "stands in the body, where that is JSON"} for name in told]
        raise Invalid(f"The query names what belongs in the body: {', '.join(told)}.", errors=errors)


def _read_binary(read: Callable[[bytes, Target], Batch], query: Query, body: bytes, find: Find) -> Asked:
    slot = _one_of(query, "slot", SLOTS)
    probabilities = _one_of(query, "probabilities", ("false", "true")) == "true"
    target = find(query.get("model", [None])[0], slot)
    if target.version.generator is not None:
        remedy = f"Send {json.MEDIA_TYPE}."
        raise UnsupportedMediaType(f"{target.slots.model} answers prompts, and those come as JSON.", remedy=remedy)
    return Asked(target, read(body, target), probabilities)


def _one_of(query: Query, name: str, known: tuple[str, str]) -> str:
    """The first of them where the query has none."""
    told = query.get(name, [known[0]])[0]
    if told not in known:
        errors = [{"field": name, "message": f"must be {' or '.join(known)}"}]
        raise Invalid(f"The request is not valid: {name}.", errors=errors)
    return told
