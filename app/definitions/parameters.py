"""Training parameters against the JSON Schema that their type has published: every fault by its path, and for a name
that nobody knows the nearest one that somebody does."""

from collections.abc import Iterator
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, cast

import jsonschema
import orjson

from app.errors import told_name
from app.patterns import UNKNOWN, WORDS

Json = dict[str, Any]
# Below it a name is another one, and no slip of the pen.
ALIKE = 0.6
DEEPEST = 6


def faults(schema: Json, params: Json) -> list[dict[str, str]]:
    """`{field, message}` of each, in the order of their paths; never the caller's values."""
    errors = sorted(_validator(orjson.dumps(schema)).iter_errors(params), key=lambda e: list(map(str, e.absolute_path)))
    told = [fault for error in errors for leaf in _leaves(error) for fault in _told(schema, leaf)]
    # Each of two that are missing tells of both.
    return [fault for place, fault in enumerate(told) if fault not in told[:place]]


def of_strategy(schema: Json, strategy: str) -> Json:
    """What the parameters must fit: a pull needs nothing of what a training does, but what `x-pull` says."""
    if strategy != "pull":
        return schema
    kept = {name: told for name, told in schema.items() if name not in ("required", "allOf")}
    return kept | {"allOf": [schema.get("x-pull", {})]}


def nearest(name: str, known: list[str]) -> str | None:
    """Of the names that are known, the one that was probably meant."""
    return next(iter(get_close_matches(name, known, n=1, cutoff=ALIKE)), None)


def _told(schema: Json, error: jsonschema.ValidationError) -> Iterator[dict[str, str]]:
    path = ["training", *(told_name(part) for part in error.absolute_path)]
    if error.validator == "required" and isinstance(error.instance, dict):
        missing = [name for name in cast("list[str]", error.validator_value) if name not in error.instance]
        told = "; ".join(["is missing", *_own_words(error)])
        yield from ({"field": ".".join([*path, name]), "message": told} for name in missing)
        return
    if error.validator != "additionalProperties" or not isinstance(error.instance, dict):
        yield {"field": ".".join(path), "message": _expected(error)}
        return
    beside = list(cast("Json", error.schema).get("properties", {}))
    for name in sorted(error.instance.keys() - set(beside)):
        meant = _meant(schema, path[1:], str(name), beside)
        known = f"the nearest that is: {meant}" if meant else f"known are {', '.join(sorted(beside))}"
        yield {"field": ".".join([*path, told_name(name)]), "message": f"is not known; {known}"}


def _meant(schema: Json, path: list[str], name: str, beside: list[str]) -> str | None:
    """Beside it, else anywhere: `lora.alpha` is lora.lora_alpha, and so is `lora_alpha` where it stands too high."""
    near = nearest(name, beside)
    if near is not None:
        return ".".join([*path, near])
    everywhere = {known.rpartition(".")[2]: known for known in reversed(list(_paths(schema, schema)))}
    found = nearest(name, list(everywhere))
    return everywhere[found] if found else None


def _paths(root: Json, schema: Json, path: str = "", depth: int = 0) -> Iterator[str]:
    """Every parameter's path, the outer ones first."""
    for form in (schema, *schema.get("anyOf", ())) if depth < DEEPEST else ():
        told = root["$defs"][form["$ref"].rpartition("/")[2]] if "$ref" in form else form
        for name in told.get("properties", {}):
            yield f"{path}{name}"
        for name, inner in told.get("properties", {}).items():
            yield from _paths(root, inner, f"{path}{name}.", depth + 1)


def _leaves(error: jsonschema.ValidationError) -> Iterator[jsonschema.ValidationError]:
    """Of what may be one of several forms, the faults of the form that it was meant to be."""
    forms: dict[Any, list[jsonschema.ValidationError]] = {}
    for inner in error.context or ():
        forms.setdefault(inner.schema_path[0], []).append(inner)
    meant = [each for each in forms.values() if not any(e.validator == "type" and not e.path for e in each)]
    if len(meant) != 1:
        yield error
        return
    for inner in meant[0]:
        yield from _leaves(inner)


def _expected(error: jsonschema.ValidationError) -> str:
    """What the schema asks for: jsonschema's own message would say the caller's value back."""
    if own := _own_words(error):
        return own[0]
    if error.validator == "pattern":
        return f"does not fit: {WORDS.get(str(error.validator_value), UNKNOWN)}"
    return f"does not fit: {error.validator} {orjson.dumps(error.validator_value).decode()}"


def _own_words(error: jsonschema.ValidationError) -> list[str]:
    """`errorMessage`, as ajv-errors has it: the type's own sentence about a rule that has a reason."""
    schema = error.schema
    return [str(schema["errorMessage"])] if isinstance(schema, dict) and "errorMessage" in schema else []


@lru_cache(maxsize=64)
def _validator(schema: bytes) -> jsonschema.Draft202012Validator:
    """Building one costs more than using it."""
    return jsonschema.Draft202012Validator(orjson.loads(schema))
