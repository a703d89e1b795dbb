"""Numbers that JSON does not know, that Python knows all the same, and that nobody can keep."""

from collections.abc import Callable, Iterator

from benchmarks.bad_input.case import Case, only, takes_body
from benchmarks.bad_input.routes import MIXED, NUMERIC, POSTED, Route

DIGITS = "918273645546372819"

# No JSON; Python reads it all the same, so that it must be refused by what it is.
PYTHONS = {"NaN": "NaN", "Infinity": "Infinity", "-Infinity": "-Infinity"}
NOT_JSON = {
    "a negative NaN": "-NaN",
    "inf": "inf",
    "a leading zero": f"0{DIGITS}",
    "a leading plus": f"+{DIGITS}",
    "two signs": f"--{DIGITS}",
    "a bare point": f".{DIGITS}",
    "nothing behind the point": f"{DIGITS}.",
    "nothing behind the exponent": f"{DIGITS}e",
    "a hexadecimal number": "0xC0FFEE99",
    "an octal number": "0o7777777",
    "underscores": "918_273_645",
    "a decimal comma": "918273,645546",
    "digits of another script": "\u0669\u0661\u0668",
    "a suffix": f"{DIGITS}n",
}
# JSON, and too large for a float or for Python's own patience with digits.
TOO_LARGE = {
    "1e400": "1e400",
    "-1e400": "-1e400",
    "5,000 digits": DIGITS[:10] * 500,
    "an exponent of 400 digits": "1e" + "9" * 400,
}
# Whole, and too large for a bigint. A cell of a row is no whole number, and takes them.
BEYOND = {
    "a whole number beyond 64 bits": DIGITS * 2,
    "a negative number beyond 64 bits": "-" + DIGITS * 2,
}
FINE = {
    "-0": "-0",
    "an exponent": "1E2",
    "a number that rounds to zero": "1e-400",
    "400 digits behind the point": "0." + "3" * 400,
}

REFUSED = frozenset({422})
MALFORMED = frozenset({"invalid_json"})
EITHER = frozenset({"invalid_json", "invalid", "invalid_instances"})  # the last of /classify
PLACED = EITHER | {"invalid_params", "invalid_rows"}
CELL = EITHER | {"invalid_instances"}
PREDICT = only("POST /predict/batch")
# Where a number may stand in a body: what is around it, for which route, and how it is told that it cannot be.
PLACES = {
    "the version that is expected": ("POST /model/reload", '{"model": "absent", "expected_active": @number@}'),
    "the version to go back to": ("POST /model/rollback", '{"model": "absent", "reason": "none", "version": @number@}'),
    "a parameter of a training": (
        "POST /training/trigger",
        f'{{"model": "{NUMERIC}", "params": {{"optuna_trials": @number@}}}}',
    ),
    "a bound of a gate": (
        "PUT /models/{model}",
        '{"type": "absent", "gate": {"criteria": {"f1": {"min": @number@, "nothing": 0}}}}',
    ),
    "a row of samples": ("POST /data/samples", f'{{"model": "{POSTED}", "rows": [{{"y": 1, "x": @number@}}]}}'),
    "the details of a quality report": (
        "POST /data/quality",
        '{"model": "Absent", "status": "healthy", "source": "none", "details": {"x": @number@}}',
    ),
    "the evidence of an incident": (
        "POST /incidents",
        '{"severity": "P9", "title": "none", "evidence": {"x": @number@}}',
    ),
}  # fmt: skip
NAMED = '{"age": @number@, "spend": 1, "plan": "basic", "region": "north"}'
INSTANCES = {
    "a list": f'{{"model": "{NUMERIC}", "instances": [[@number@@others@]]}}',
    "an object": f'{{"model": "{MIXED}", "instances": [{NAMED}]}}',
}


def cases() -> Iterator[Case]:
    for name, number in (PYTHONS | NOT_JSON | TOO_LARGE | BEYOND | FINE).items():
        codes = MALFORMED if name in NOT_JSON else EITHER
        yield _case(f"{name} in place of a text", number, REFUSED, codes, takes_body, '{"@field@": @number@}')
    for name, number in (PYTHONS | NOT_JSON | TOO_LARGE | BEYOND).items():
        codes = MALFORMED if name in NOT_JSON else PLACED
        for place, (route, template) in PLACES.items():
            yield _case(f"{name} as {place}", number, REFUSED, codes, only(route), template)
    for form, template in INSTANCES.items():
        for name, number in (PYTHONS | NOT_JSON | TOO_LARGE).items():
            yield _case(f"{name} in {form} of numbers", number, REFUSED, CELL, PREDICT, template)
        for name, number in (BEYOND | FINE).items():
            yield _case(f"{name} in {form} of numbers", number, frozenset({200}), frozenset(), PREDICT, template)


def _case(
    name: str, number: str, statuses: frozenset[int], codes: frozenset[str], on: Callable[[Route], bool], template: str
) -> Case:
    body = template.replace("@number@", number).replace("@others@", ", 0.5" * 29)
    return Case(name, statuses, codes, on, body=body, tells=(number.encode(),) if DIGITS[:9] in number else ())
