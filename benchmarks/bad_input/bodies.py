"""Bodies that are no JSON, or JSON that no request is: encodings, nesting, truncation, types, sizes, compression."""

import gzip
import zlib
from collections.abc import Callable, Iterator

from benchmarks.bad_input.case import JSON_TYPE, Case, is_cold, is_hot, needs_body, only, takes_body
from benchmarks.bad_input.routes import NUMERIC

REFUSED = frozenset({422})
NOT_JSON = frozenset({"invalid_json"})
NOT_VALID = frozenset({"invalid"})
# The fields of /classify are the columns of a model.
EITHER = NOT_JSON | NOT_VALID | {"invalid_instances"}
LIMIT = 32 * 2**20  # the default of REFIT_MAX_BODY_BYTES

MALFORMED: dict[str, str | bytes] = {
    "a lone brace": "{",
    "a closing brace": "}",
    "a key without a value": '{"@mark@"',
    "a key and a colon": '{"@mark@":',
    "a value that is cut off": '{"@field@": "@mark@',
    "an escape that is cut off": '{"@field@": "@mark@\\',
    "a \\u that is cut off": '{"@field@": "@mark@\\u12',
    "an escape that is none": '{"@field@": "@mark@\\x41"}',
    "a trailing comma": '{"@field@": "@mark@",}',
    "a comma too many in a list": '{"@field@": ["@mark@",,1]}',
    "single quotes": "{'@field@': '@mark@'}",
    "a key without quotes": '{@field@: "@mark@"}',
    "a comment": '{"@field@": "@mark@" /* @mark@ */}',
    "junk behind it": '{"@field@": "@mark@"} @mark@',
    "two documents": '{"@field@": "@mark@"}{"@field@": "@mark@"}',
    "two documents in two lines": '{"@field@": "@mark@"}\n{"@field@": "@mark@"}',
    "a second closing brace": '{"@field@": "@mark@"}}',
    "True as Python writes it": '{"@field@": True, "x": "@mark@"}',
    "undefined": '{"@field@": undefined, "x": "@mark@"}',
    "bare words": "@mark@ @mark@",
    "a form": "@field@=@mark@&x=1",
    "XML": '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;@mark@</a>',
    "YAML": "@field@: @mark@\n",
    "a pickle": b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94@mark@.",
    "spaces only": "   ",
    "line ends only": "\r\n\r\n",
    "zero bytes": b"\0" * 64,
    "a raw NUL in a text": '{"@field@": "@mark@\0"}',
    "a raw line end in a text": '{"@field@": "@mark@\n"}',
    "a raw tab in a text": '{"@field@": "@mark@\t"}',
    "Latin-1 in a text": b'{"@field@": "@mark@\xe9"}',
    "a lone continuation byte": b'{"@field@": "@mark@\x80"}',
    "an overlong slash": b'{"@field@": "@mark@\xc0\xaf"}',
    "an overlong NUL": b'{"@field@": "@mark@\xc0\x80"}',
    "a character beyond Unicode": b'{"@field@": "@mark@\xf4\x90\x80\x80"}',
    "a byte that UTF-8 never has": b'{"@field@": "@mark@\xff"}',
    "a sequence that is cut off": b'{"@field@": "@mark@\xe2\x82"}',
    "a no-break space before it": '\u00a0{"@field@": "@mark@"}',
    "1,000 lists that do not end": "[" * 1_000,
    "100,000 lists that do not end": "[" * 100_000,
    "100,000 objects that do not end": '{"a":' * 100_000,
    "100,000 lists": "[" * 100_000 + "]" * 100_000,
    "100,000 lists in a field": '{"@field@": ' + "[" * 100_000 + "]" * 100_000 + "}",
}
# JSON, or nearly so, but of no request.
WRONG = {
    "a byte order mark": '\ufeff{"@field@": "@mark@", "nobody_knows_this": 1}',
    "a raw pair of surrogates": '{"@field@": "@mark@\ud83d\ude00"}',
    "a raw surrogate": '{"@field@": "@mark@\ud800"}',
    "null": "null",
    "true": "true",
    "a number": "91827364554",
    "a text": '"@mark@"',
    "a list": '["@mark@"]',
    "an empty list": "[]",
    "a list around the request": "[@plain@]",
    "an unknown field": '{"nobody_knows_this": "@mark@"}',
    "an unknown field with an empty name": '{"": "@mark@"}',
    "an unknown field beside the request": '{"nobody_knows_this": "@mark@", "and_this": @plain@}',
    "__proto__": '{"__proto__": {"@field@": "@mark@"}}',
    "__class__": '{"__class__": "@mark@"}',
    "$ref": '{"$ref": "file:///etc/passwd", "x": "@mark@"}',
    "an unknown field called like a query": '{"\' OR 1=1 --": "@mark@"}',
    "an unknown field that nobody would call so": '{"<b>@mark@</b>": 1}',
    "an unknown field of 100,000 letters": '{"@mark@' + "a" * 100_000 + '": 1}',
    "an unknown field with a NUL": '{"@mark@\\u0000": 1}',
    "an unknown field of half a pair": '{"@mark@\\ud800": 1}',
    "10,000 unknown fields": "{" + ",".join(f'"n{i}":"@mark@"' for i in range(10_000)) + "}",
    "null in place of a text that is needed": '{"@field@": {"@mark@": null}}',
    "a list in place of a text": '{"@field@": ["@mark@"]}',
    "an object in place of a text": '{"@field@": {"x": "@mark@"}}',
    "true in place of a text": '{"@field@": true, "x": "@mark@"}',
    "a text of 100,000 letters": '{"@field@": "@mark@ ' + "A" * 100_000 + '", "nobody_knows_this": 1}',
    "1,000 lists in a field": '{"@field@": ' + "[" * 900 + "]" * 900 + "}",
    "900 objects in a field": '{"@field@": ' + '{"a":' * 900 + "1" + "}" * 900 + "}",
    "an escaped NUL": '{"@field@": "@mark@\\u0000", "nobody_knows_this": 1}',
    "half of an escaped pair": '{"@field@": "@mark@\\ud800", "nobody_knows_this": 1}',
    "an escaped pair the wrong way round": '{"@field@": "@mark@\\ude00\\ud83d", "nobody_knows_this": 1}',
    "a direction override": '{"@field@": "@mark@\u202e", "nobody_knows_this": 1}',
    "a key twice": '{"@field@": "@mark@ A", "@field@": "@mark@ B", "nobody_knows_this": 1}',
    "a key twice, once escaped": '{"model": "@mark@ A", "mode\\u006c": "@mark@ B", "nobody_knows_this": 1}',
    "an unknown key twice": '{"nobody_knows_this": "@mark@", "nobody_knows_this": "@mark@"}',
}
INSTANCES = f'"instances": [[{", ".join(["0.5"] * 30)}]]'
# The last one counts, as it does on every other route.
TWICE = {
    "the model": f'{{"model": "absent", "model": "{NUMERIC}", {INSTANCES}}}',
    "the slot": f'{{"model": "{NUMERIC}", "slot": "@mark@", "slot": "active", {INSTANCES}}}',
    "the rows": f'{{"model": "{NUMERIC}", "instances": [["@mark@"]], {INSTANCES}}}',
    "the model, once escaped,": f'{{"model": "absent", "mode\\u006c": "{NUMERIC}", {INSTANCES}}}',
}
ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "utf-7", "cp037")


# Content types that are not JSON's, and what the hot path says to them; everywhere else the body is then no object.
OTHER_TYPES = (
    b"text/plain",
    b"text/html",
    b"application/x-www-form-urlencoded",
    b"multipart/form-data",
    b"multipart/form-data; boundary=@mark@",
    b"application/xml",
    b"application/octet-stream",
    b"application/msgpack",
    b"application/x-pickle",
    b"application/jsonx",
    b"application",
    b"json",
    b"*/*",
    b"@mark@",
    b"@mark@/json",
    b"text/json",
)
# Read as JSON everywhere: parameters say nothing, RFC 8259 knows no charset.
SAME_TYPES = (
    b"application/json; charset=utf-8",
    b"application/json; charset=utf-16",
    b"application/json; charset=@mark@",
    b"application/json;",
    b"APPLICATION/JSON",
    b"application/json ; @mark@",
)
CODINGS: dict[bytes, Callable[[], bytes]] = {
    b"gzip": lambda: gzip.compress(bytes(LIMIT * 2), 1),
    b"x-gzip": lambda: gzip.compress(b"{}"),
    b"deflate": lambda: zlib.compress(bytes(LIMIT * 2), 1),
    b"br": lambda: b"\x5b\xff\xff\xff\x05" + bytes(64),
    b"zstd": lambda: b"\x28\xb5\x2f\xfd" + bytes(64),
    b"gzip, gzip": lambda: gzip.compress(gzip.compress(bytes(LIMIT), 1)),
    b"compress": lambda: b"\x1f\x9d" + bytes(64),
    b"identity, gzip": lambda: gzip.compress(b"{}"),
    b"@mark@": lambda: b"{}",
}
UNKNOWN = '{"nobody_knows_this": "@mark@"}'


def cases() -> Iterator[Case]:
    for name, body in MALFORMED.items():
        yield Case(f"a body of {name}", REFUSED, NOT_JSON, takes_body, body=body)
    for name, body in WRONG.items():
        yield Case(f"a body of {name}", REFUSED, EITHER, needs_body if name == "null" else takes_body, body=body)
    for encoding in ENCODINGS:
        text = '{"@field@": "@mark@", "nobody_knows_this": "@mark@"}'
        yield Case(f"a body in {encoding}", REFUSED, EITHER, takes_body, body=text, encoding=encoding)
    yield Case("an empty body", REFUSED, EITHER, needs_body, body="")
    yield Case("no body and no length", REFUSED, EITHER, needs_body, tail=b"\r\n")
    for name, told in TWICE.items():
        yield Case(f"{name} twice, wrong at first", frozenset({200}), on=is_hot, body=told)
    yield from _types()
    yield from _compressed()
    yield from _sizes()


def _types() -> Iterator[Case]:
    for told in OTHER_TYPES:
        name, kind = f"JSON called {told.decode()}", (b"Content-Type", told)
        yield Case(name, REFUSED, NOT_VALID, is_cold, content_type=kind)
        yield Case(name, frozenset({415}), frozenset({"unsupported_media_type"}), is_hot, content_type=kind)
    for told in SAME_TYPES:
        yield Case(f"JSON called {told.decode()}", on=takes_body, content_type=(b"Content-Type", told))
    yield Case("JSON without a type", REFUSED, NOT_VALID, is_cold, content_type=None)
    yield Case("JSON without a type", on=is_hot, content_type=None)
    yield Case("JSON of two types", on=takes_body, headers=(JSON_TYPE,), content_type=(b"Content-Type", b"text/plain"))


def _compressed() -> Iterator[Case]:
    for coding, bomb in CODINGS.items():
        sent = (b"Content-Encoding", coding)
        unsupported = frozenset({"unsupported_encoding"})
        yield Case(f"a body in {coding.decode()}", frozenset({415}), unsupported, headers=(sent,), body=bomb())
    yield Case("a body in identity", headers=((b"Content-Encoding", b"identity"),), on=takes_body)


def _sizes() -> Iterator[Case]:
    """Right at the limit, announced and in chunks; spaces behind the document are JSON."""
    some = only("POST /model/hold", "POST /predict/batch", "POST /data/samples")
    too_large = frozenset({"too_large"})
    for chunked, how in ((False, "announced"), (True, "in chunks")):
        for more in (-1, 0, 1, 70_000):
            refused = more > 0
            yield Case(
                f"a body of the limit {more:+,} bytes, {how}",
                frozenset({413}) if refused else REFUSED,
                too_large if refused else EITHER,
                some, body=UNKNOWN, length=LIMIT + more, chunked=chunked,
            )  # fmt: skip
    for length in (LIMIT + 1, 10**12, 2**63 - 1):
        tail = b"Content-Length: %d\r\n\r\n{" % length
        yield Case(f"{length:,} bytes announced", frozenset({413}), too_large, takes_body, tail=tail)
    yield Case("a small body in chunks", REFUSED, EITHER, takes_body, body=UNKNOWN, chunked=True)
