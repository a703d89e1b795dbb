"""Headers that are huge, many, twice, rubbish, or not allowed; on every route, where nothing else is said."""

from collections.abc import Iterator

from benchmarks.bad_input.case import Case, Header, only, takes_body
from benchmarks.bad_input.routes import MIXED, NUMERIC

REFUSED = frozenset({422})
INVALID = frozenset({"invalid"})

# What no route may be moved by: the answer is as without them.
IGNORED: dict[str, tuple[Header, ...]] = {
    "a header of 60,000 bytes": ((b"X-Large", b"@mark@" * 3_000),),
    "a header with a name of 8,000 bytes": ((b"X-" + b"n" * 8_000, b"@mark@"),),
    "1,000 headers": tuple((b"X-%d" % i, b"@mark@") for i in range(1_000)),
    "a header 500 times": ((b"X-Same", b"@mark@"),) * 500,
    "a header without a value": ((b"X-Empty", b""),),
    "a header of Latin-1": ((b"X-Latin", b"\xe9\xff@mark@"),),
    "a header of UTF-8": ((b"X-Text", "é@mark@💩".encode()),),
    "a second Host": ((b"Host", b"@mark@.example"),),
    "a forwarded host": ((b"X-Forwarded-Host", b"@mark@.example"), (b"Forwarded", b"host=@mark@.example")),
    "a forwarded address": ((b"X-Forwarded-For", b"127.0.0.1, @mark@"), (b"X-Real-IP", b"@mark@")),
    "a forwarded scheme": ((b"X-Forwarded-Proto", b"@mark@"),),
    "another path by a proxy's header": ((b"X-Original-URL", b"/keys"), (b"X-Rewrite-URL", b"/@mark@")),
    "another method by a header": ((b"X-HTTP-Method-Override", b"DELETE"), (b"X-Method-Override", b"@mark@")),
    "a request id of its own": ((b"X-Request-ID", b"@mark@"), (b"traceparent", b"00-@mark@-01")),
    "Accept that nobody can satisfy": ((b"Accept", b"application/@mark@"),),
    "Accept that is rubbish": ((b"Accept", b";;;q=@mark@,,"),),
    "Accept-Encoding that forbids all": ((b"Accept-Encoding", b"*;q=0, @mark@"),),
    "Accept-Charset": ((b"Accept-Charset", b"utf-16;q=1, @mark@"),),
    "Accept-Language of 5,000 bytes": ((b"Accept-Language", b"@mark@," * 250),),
    "Range": ((b"Range", b"bytes=0-0,-1,@mark@"),),
    "an Origin": ((b"Origin", b"https://@mark@.example"),),
    "a preflight's headers": (
        (b"Origin", b"https://@mark@.example"),
        (b"Access-Control-Request-Method", b"@mark@"),
    ),
    "cookies": ((b"Cookie", b"session=@mark@; admin=true"),),
    "User-Agent that is a script": ((b"User-Agent", b"<script>@mark@</script>"),),
    "a Referer": ((b"Referer", b"javascript:@mark@"),),
    "If-Modified-Since that is rubbish": ((b"If-Modified-Since", b"@mark@"),),
    "If-Unmodified-Since in the past": ((b"If-Unmodified-Since", b"Thu, 01 Jan 1970 00:00:00 GMT"),),
    "If-Range": ((b"If-Range", b'"@mark@"'),),
    "Connection that is rubbish": ((b"Connection", b"@mark@"),),
    "Connection that names the key": ((b"Connection", b"Authorization, keep-alive"),),
    "Keep-Alive": ((b"Keep-Alive", b"timeout=-1, max=@mark@"),),
    "TE": ((b"TE", b"trailers, @mark@"),),
    "a Trailer": ((b"Trailer", b"Authorization"),),
    "Max-Forwards": ((b"Max-Forwards", b"-1"),),
    "Expect": ((b"Expect", b"100-continue"),),
    "Expect that is rubbish": ((b"Expect", b"@mark@"),),
}  # fmt: skip
# Nothing is upgraded to. The HTTP server loses a body that comes with the wish, so that it must be refused.
UPGRADES: dict[str, tuple[Header, ...]] = {
    "an upgrade to WebSocket": (
        (b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="), (b"Sec-WebSocket-Version", b"13"),
    ),
    "an upgrade to HTTP/2": (
        (b"Connection", b"Upgrade, HTTP2-Settings"), (b"Upgrade", b"h2c"), (b"HTTP2-Settings", b""),
    ),
    "an upgrade to something": ((b"Connection", b"Upgrade"), (b"Upgrade", b"@mark@")),
}  # fmt: skip
# No ETag of ours: whoever sends it gets the whole answer.
ETAGS = (
    b"",
    b'"',
    b'""',
    b'"@mark@"',
    b"@mark@",
    b"W/",
    b'W/"@mark@"',
    b'"a", "b"',
    b"\xff\xfe",
    b'"' + b"@mark@" * 600 + b'"',
)
IF_MATCH = (
    b'"',
    b"@mark@",
    b'"@mark@"',
    b"W/",
    b"1",
    b"-1",
    b'"-1/"',
    b'"1',
    b'"1.5/"',
    b"\xff",
    b'"NaN/x"',
    b'"1/" , "2/"',
)
LAST_EVENT = (b"@mark@", b"", b"-1", b"1.5", b"NaN", b"1" + b"0" * 30, b"9" * 5_000, b"0x10", b"\xff", b"null", b"1, 2")
IDEMPOTENCY = {b"": "that is empty", b"@mark@" * 20: "of 320 bytes", b"k" * 201: "of 201 bytes"}
IDEMPOTENCY_FINE = {
    b"k" * 200: "of 200 bytes",
    b"\xe9\xff": "of Latin-1",
    "é💩".encode(): "of UTF-8",
    b"'; DROP TABLE idempotency_keys": "that is a statement",
}
SWAPS = {
    "POST /model/reload": f'{{"model": "{NUMERIC}"}}',
    "POST /model/rollback": f'{{"model": "{NUMERIC}", "reason": "none", "hold": false}}',
}


def cases() -> Iterator[Case]:
    for name, headers in IGNORED.items():
        yield Case(name, headers=headers)
    for name, headers in UPGRADES.items():
        lost = frozenset({"upgrade_unsupported"})
        yield Case(name, on=lambda route: not takes_body(route), headers=headers)
        yield Case(f"{name} with a body", REFUSED, lost, takes_body, headers=headers)
    for etag in ETAGS:
        yield Case(f"If-None-Match {_short(etag)}", headers=((b"If-None-Match", etag),))
    for value in LAST_EVENT:
        stream = only("GET /training/jobs/{job_id}/events")
        yield Case(f"Last-Event-ID {_short(value)}", REFUSED, INVALID, stream, headers=((b"Last-Event-ID", value),))
    for route, body in SWAPS.items():
        for etag in IF_MATCH:
            name, sent = f"If-Match {_short(etag)} of {route}", ((b"If-Match", etag),)
            yield Case(name, REFUSED, INVALID, only(route), headers=sent, body=body)
        for etag in (b'"999999/"', b'"0/"', b'W/"999999/x"', b'"99999999999999999999999999/"'):
            name, sent = f"If-Match {_short(etag)} of {route}", ((b"If-Match", etag),)
            yield Case(name, frozenset({412}), frozenset({"stale"}), only(route), headers=sent, body=body)
    yield from _idempotency()


def _idempotency() -> Iterator[Case]:
    """The key of the first training of NUMERIC is taken: see benchmarks.bad_input.__main__."""
    trigger, name = only("POST /training/trigger"), b"Idempotency-Key"
    for value, told in IDEMPOTENCY.items():
        yield Case(f"an Idempotency-Key {told}", REFUSED, INVALID, trigger, headers=((name, value),))
    for value, told in IDEMPOTENCY_FINE.items():
        yield Case(f"an Idempotency-Key {told}", on=trigger, headers=((name, value),))
    yield Case("two Idempotency-Keys", on=trigger, headers=((name, b"one-@mark@"), (name, b"two-@mark@")))
    others = {
        "with a note": f'{{"model": "{NUMERIC}", "note": "@mark@"}}',
        "with other parameters": f'{{"model": "{NUMERIC}", "params": {{"optuna_trials": 2}}}}',
        "of another model": f'{{"model": "{MIXED}"}}',
        "as a dry run": f'{{"model": "{NUMERIC}", "dry_run": true}}',
        "with another data version": f'{{"model": "{NUMERIC}", "data_version": "0123456789abcdef"}}',
    }
    reused = frozenset({"idempotency_key_reused"})
    for how, body in others.items():
        sent = ((name, b"@idempotency@"),)
        yield Case(f"a taken Idempotency-Key {how}", REFUSED, reused, trigger, headers=sent, body=body)


def _short(value: bytes) -> str:
    return f"{value[:20]!r}" + (f" of {len(value):,} bytes" if len(value) > 20 else "")
