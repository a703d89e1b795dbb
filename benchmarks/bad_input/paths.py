"""Ids and names in a path that cannot be, on every route that has one."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.bad_input.case import Case
from benchmarks.bad_input.routes import Route

UNKNOWN, INVALID, EITHER = frozenset({404}), frozenset({422}), frozenset({404, 422})


@dataclass(frozen=True)
class Value:
    """What stands in the place of the parameter, and what is right where a number, a name or the id of a key does.

    A name that could be one is unknown to most routes; PUT would define it, and refuses the definition. OpenAI's
    clients name models as they please: none of these is served.
    """

    name: str
    sent: bytes
    number: frozenset[int] = INVALID
    model: frozenset[int] = INVALID
    key: frozenset[int] = UNKNOWN
    served: frozenset[int] = UNKNOWN


VALUES = (
    Value("zero", b"0"),
    Value("a negative number", b"-1"),
    Value("2^63", b"9223372036854775808"),
    Value("the largest bigint", b"9223372036854775807", number=UNKNOWN),
    Value("10^30", b"1" + b"0" * 30),
    Value("a negative 10^30", b"-1" + b"0" * 30),
    Value("5,000 digits", b"9" * 5_000),
    Value("a fraction", b"1.5"),
    Value("an exponent", b"1e3"),
    Value("a hexadecimal number", b"0x1"),
    Value("NaN", b"NaN"),
    Value("Infinity", b"Infinity"),
    Value("null", b"null", model=EITHER),
    Value("undefined", b"undefined", model=EITHER),
    Value("true", b"true", model=EITHER),
    Value("a word", b"@mark@", model=EITHER),
    Value("a word in capitals", b"@mark@ABC"),
    Value("a name of 63 letters", b"a" * 63, model=EITHER),
    Value("a name of 64 letters", b"a" * 64),
    Value("a name of 8,000 letters", b"@mark@" + b"a" * 8_000),
    Value("a name that begins with a digit", b"9@mark@"),
    Value("a name with a point", b"@mark@.json"),
    Value("a space", b"%20"),
    Value("a plus", b"+"),
    Value("a NUL", b"%00", key=INVALID),
    Value("a number, then a NUL", b"1%00", key=INVALID),
    Value("a word, then a line end", b"@mark@%0d%0aSet-Cookie:%20a=b"),
    Value("a number, then a line end and a header", b"1%0d%0aX-Injected:%20@mark@"),
    Value("an encoded slash", b"%2f", number=EITHER, model=EITHER),
    Value("an encoded way up", b"..%2f..%2f@mark@", number=EITHER, model=EITHER),
    Value("an encoded way to a file", b"%2e%2e%2f%2e%2e%2fetc%2fpasswd", number=EITHER, model=EITHER),
    Value("a way up", b"../@mark@", number=EITHER, model=EITHER),
    Value("encoded points", b"%2e%2e"),
    Value("points", b".."),
    Value("a way up by backslashes", b"..%5c..%5c@mark@"),
    Value("a way up, encoded twice", b"%252e%252e%252f@mark@"),
    Value("a semicolon", b"@mark@;v=1"),
    Value("a comma", b"1,2"),
    Value("a quote", b"1'%20OR%20'1'='1"),
    Value("a statement", b"1;DROP%20TABLE%20jobs"),
    Value("a tag", b"%3Cscript%3E@mark@%3C/script%3E", number=EITHER, model=EITHER),
    Value("a template", b"{{7*7}}@mark@"),
    Value("a format", b"%25s%25n%25x"),
    Value("an expression", b"${jndi:ldap:@mark@}"),
    Value("a star", b"*"),
    Value("a tilde", b"~@mark@"),
    Value("a per cent sign alone", b"%"),
    Value("no hexadecimal digits", b"%zz@mark@"),
    Value("an encoded letter of Unicode", b"%C3%A9"),
    Value("digits of another script", b"%D9%A1", number=EITHER),
    Value("an emoji", b"%F0%9F%92%A9"),
    Value("a direction override", b"%E2%80%AE"),
    Value("half of a pair", b"%ED%A0%80"),
    Value("a byte that UTF-8 never has", b"%FF"),
    Value("an overlong slash", b"%C0%AF"),
)


def cases() -> Iterator[Case]:
    for value in VALUES:
        for kind, has in KINDS.items():
            statuses = getattr(value, kind)
            yield Case(f"{value.name} in place of a {kind}", statuses, frozenset(), has, parameter=value.sent)


def _last(route: Route) -> str | None:
    return [*route.at][-1] if route.at else None


def _names_key(route: Route) -> bool:
    return route.path == "/keys/{id}"


def _is_openais(route: Route) -> bool:
    return route.path == "/v1/models/{model}"


KINDS = {
    "number": lambda route: _last(route) in ("job_id", "number", "id") and not _names_key(route),
    "model": lambda route: _last(route) == "model" and not _is_openais(route),
    "served": _is_openais,
    "key": _names_key,
}
