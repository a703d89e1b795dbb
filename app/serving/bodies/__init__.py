"""Body → rows for the version that answers. One file is one format, named by its content type.

A module here has `MEDIA_TYPE` and `read(body, find) -> (Target, Batch)`. JSON names model and slot in the body; the
binary formats hold rows alone, and `?model=&slot=` name them.
"""

from collections.abc import Callable
from functools import partial
from urllib.parse import parse_qs

from starlette.types import Scope

from app.errors import Invalid, UnsupportedMediaType
from app.http import header
from app.runtimes import Batch
from app.serving.bodies import arrow, json, npy
from app.serving.target import SLOTS, Find, Target

Read = Callable[[bytes, Find], tuple[Target, Batch]]
BINARY = {module.MEDIA_TYPE: module.read for module in (arrow, npy)}


def reader_of(scope: Scope) -> Read:
    """How this request's body is read. No content type is JSON, as `curl --data` without a header would have it.

    Raises UnsupportedMediaType, and Invalid for a query that names no slot.
    """
    told = header(scope, b"content-type")
    media_type = told.partition(";")[0].strip().lower()
    if media_type in ("", json.MEDIA_TYPE):
        return json.read
    if media_type not in BINARY:
        known = ", ".join([json.MEDIA_TYPE, *BINARY])
        raise UnsupportedMediaType("The body's content type is none of ours.", remedy=f"Send one of: {known}.")
    return partial(_read_binary, BINARY[media_type], scope["query_string"].decode("latin-1"))


def _read_binary(read: Callable[[bytes, Target], Batch], query: str, body: bytes, find: Find) -> tuple[Target, Batch]:
    asked = parse_qs(query)
    slot = asked.get("slot", ["active"])[0]
    if slot not in SLOTS:
        raise Invalid(
            "The request is not valid: slot.", errors=[{"field": "slot", "message": "must be active or standby"}]
        )
    target = find(asked.get("model", [None])[0], slot)
    return target, read(body, target)
