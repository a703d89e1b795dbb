"""Wrong types for every field of every request, and wrong values for every parameter of a query: from the document."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from benchmarks.bad_input.case import Case, only
from benchmarks.bad_input.routes import NUMERIC, ROUTES, Json, Route

REFUSED = frozenset({422})
CODES = frozenset({"invalid", "invalid_json", "invalid_instances"})
# How far fields of fields are followed.
DEPTH = 4

# By the types that a field takes: values of every other. Pydantic reads "1" as 1 and 1 as true, so those are left out.
VALUES: dict[str, Any] = {
    "string": "@mark@ X",
    "integer": 91827364554,
    "number": 9182.7364,
    "boolean": True,
    "array": ["@mark@ X"],
    "object": {"@mark@": 1},
    "null": None,
}
ALSO_READ = {"integer": {"boolean"}, "number": {"integer", "boolean"}, "boolean": set[str](), "string": set[str]()}

BEYOND = ("99999999999999999999", "-99999999999999999999", "9" * 5_000)
WRONG_QUERY: dict[str, tuple[str, ...]] = {
    "integer": ("@mark@", "", "1.5", "1e3", "NaN", "Infinity", "0x1", "-1", "%00", "1,2", "null", *BEYOND),
    "number": ("@mark@", "", "nan", "inf", "-1", "1e400", "61", "%00", "null"),
    "boolean": ("@mark@", "2", "", "null", "%00"),
    "pattern": ("@mark@%20X", "", "%00", "A", "%C3%A9", "%ED%A0%80", "%FF", "a" * 5_000 + "!", "..%2f..", "a%0d%0aX:"),
    "enum": ("@mark@", "", "%00", "COMPLETED"),
    "date-time": ("@mark@", "", "yesterday", "2026-13-01T00:00:00Z", "2026-11-21T00:00:00", "%00", "9" * 400),
}  # fmt: skip
STRANGE_QUERIES = {
    "a query that nobody knows": b"nobody_knows_this=@mark@",
    "a query without a name": b"=@mark@",
    "a query of signs": b"&&==&%&;",
    "a query of 60,000 bytes": b"nobody=" + b"@mark@" * 3_750,
    "1,000 queries": b"&".join(b"q%d=@mark@" % i for i in range(1_000)),
    "a query with a NUL": b"nobody=%00@mark@",
    "a query that is no UTF-8": b"nobody=%FF%ED%A0%80@mark@",
    "a query with brackets": b"nobody[a][]=@mark@",
}


def cases(document: Json) -> Iterator[Case]:
    for route in ROUTES:
        operation = document["paths"][route.path][route.method.lower()]
        yield from _query_cases(route, operation.get("parameters", ()))
        if route.body is not None:
            content = operation["requestBody"]["content"]["application/json"]
            yield from _body_cases(route, content["schema"], document["components"]["schemas"])
    for name, query in STRANGE_QUERIES.items():
        yield Case(name, on=lambda route: not route.query, query=query)


def _body_cases(route: Route, schema: Json, known: Json) -> Iterator[Case]:
    # Where a field takes one of several forms, some values are wrong for each of them.
    found = {(path, type): wrong for path, wrong, type in _wrong(schema, known, DEPTH)}
    for (path, type), wrong in found.items():
        where = ".".join(str(part) for part in path) or "the body"
        # Rows are looked at by the version that answers, so there must be one.
        fine = {**(route.body or {}), "model": NUMERIC} if route.is_hot else route.body
        body = json.dumps(_placed(fine, path, wrong))
        yield Case(f"{type} as {where} of {route}", REFUSED, CODES, only(str(route)), body=body)


def _wrong(schema: Json, known: Json, depth: int) -> Iterator[tuple[tuple[str | int, ...], Any, str]]:
    """(path, value, its type) of whatever does not fit, here and in every field below."""
    forms = list(_forms(schema, known))
    types = {form["type"] for form in forms if "type" in form}
    read = types | {other for type in types for other in ALSO_READ.get(type, ())}
    if types and types != {"null"}:
        yield from (((), value, type) for type, value in VALUES.items() if type not in read)
    if any("enum" in form for form in forms):
        yield (), "@mark@", "an unknown word"
    for form in forms if depth else ():
        fields = form.get("properties", {}) | _named(form)
        for name, inner in fields.items():
            yield from (((name, *path), value, type) for path, value, type in _wrong(inner, known, depth - 1))
        if form.get("type") == "array" and form.get("items"):
            yield from (((0, *path), value, type) for path, value, type in _wrong(form["items"], known, depth - 1))


def _named(form: Json) -> Json:
    """A field of a name that the schema leaves open; `f1` is the name of a criterion, and as good as any."""
    more = form.get("additionalProperties")
    return {"f1": more} if isinstance(more, dict) else {}


def _forms(schema: Json, known: Json) -> Iterator[Json]:
    """The schema itself, or the ones of which it is any."""
    if "$ref" in schema:
        schema = known[schema["$ref"].rpartition("/")[2]]
    if "anyOf" not in schema:
        yield schema
    for form in schema.get("anyOf", ()):
        yield from _forms(form, known)


def _placed(body: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """`body` with `value` at `path`."""
    if not path:
        return value
    here, *rest = path
    if here == 0:
        return [_placed(None, tuple(rest), value)]
    fields = body if isinstance(body, dict) else {}
    return fields | {here: _placed(fields.get(str(here)), tuple(rest), value)}


def _query_cases(route: Route, parameters: list[Json]) -> Iterator[Case]:
    for parameter in parameters:
        if parameter["in"] != "query" or route.is_hot:  # JSON says there what the query says elsewhere
            continue
        name, form = parameter["name"], _form(parameter["schema"])
        for value in WRONG_QUERY[_kind(form)]:
            if _fits(value, form):
                continue
            others = [pair for pair in route.query.split("&") if pair and not pair.startswith(f"{name}=")]
            query = "&".join([*others, f"{name}={value}"]).encode()
            told = f"?{name}={value[:30]} of {route}"
            yield Case(told, REFUSED, frozenset({"invalid"}), only(str(route)), query=query)


def _form(schema: Json) -> Json:
    form: Json = next(form for form in schema.get("anyOf", [schema]) if form.get("type") != "null")
    return form


def _kind(form: Json) -> str:
    return str(next((name for name in ("enum", "pattern") if name in form), form.get("format", form["type"])))


def _fits(value: str, form: Json) -> bool:
    """Whether this form takes what another one of its kind would not."""
    if "pattern" in form:
        text = unquote(value)
        longest: int = form.get("maxLength", len(text))
        return len(text) <= longest and re.search(form["pattern"], text) is not None
    if form["type"] == "number" and value.isdecimal():
        return bool(float(value) <= form.get("maximum", float("inf")))
    return False
