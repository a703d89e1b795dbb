"""Keys that are none, were one, or are somebody else's; on every route that asks for one.

What each role may do is benchmarks.bad_input.roles' part.
"""

from collections.abc import Iterator

from benchmarks.bad_input.case import Case, Header
from benchmarks.bad_input.routes import Route

UNKNOWN = frozenset({401})
CODE = frozenset({"unauthenticated"})

REFUSED: dict[str, bytes | None] = {
    "no key": None,
    "an empty Authorization": b"",
    "a scheme without a key": b"Bearer",
    "a scheme and spaces": b"Bearer    ",
    "a key without a scheme": b"@admin@",
    "a key under Basic": b"Basic @admin@",
    "a key under Token": b"Token @admin@",
    "a key under Digest": b'Digest username="@admin@"',
    "a key in quotes": b'Bearer "@admin@"',
    "a key that was revoked": b"Bearer @revoked@",
    "a key that was never made": b"Bearer refit_0123456789ab_" + b"0" * 64,
    "a key one letter short": b"Bearer @short@",
    "a key of which half is there": b"Bearer @half@",
    "a key without its secret": b"Bearer @id@",
    "a key with an empty secret": b"Bearer @id@_",
    "a key one letter too long": b"Bearer @admin@0",
    "a key in capitals": b"Bearer @capitals@",
    "a secret in capitals": b"Bearer @shouted@",
    "a key without its prefix": b"Bearer @bare@",
    "a key with something before it": b"Bearer x@admin@",
    "a key with another prefix": b"Bearer other_@bare@",
    "a key twice": b"Bearer @admin@@admin@",
    "two keys": b"Bearer @admin@ @admin@",
    "two keys with a comma": b"Bearer @admin@, Bearer @admin@",
    "the id of one key with the secret of another": b"Bearer @mixed@",
    "the digest of the secret": b"Bearer @digest@",
    "a key that is a statement": b"Bearer ' OR 1=1 --@mark@",
    "a key of 50,000 letters": b"Bearer refit_" + b"@mark@" * 2_500,
    "a key of Latin-1": b"Bearer refit_\xe9\xff_\xe9",
    "a key of UTF-8": "Bearer refit_é_💩".encode(),
    "underscores": b"Bearer ______",
    "null": b"Bearer null",
    "a JSON web token without a signature": b"Bearer eyJhbGciOiJub25lIn0.eyJyb2xlIjoiYWRtaW4ifQ.",
}
X_KEY = b"X-API-Key"
FINE: dict[str, tuple[bytes | None, tuple[Header, ...]]] = {
    "a key in X-API-Key": (None, ((X_KEY, b"@admin@"),)),
    "a scheme in capitals": (b"BEARER @admin@", ()),
    "spaces around the key": (b"Bearer   @admin@  ", ()),
    "a key, and another in X-API-Key": (b"Bearer @admin@", ((X_KEY, b"@viewer@"),)),
    "a key, and rubbish in X-API-Key": (b"Bearer @admin@", ((X_KEY, b"@mark@"),)),
    "a key, then rubbish in a second Authorization": (b"Bearer @admin@", ((b"Authorization", b"Bearer @mark@"),)),
}
MIXED: dict[str, tuple[bytes | None, tuple[Header, ...]]] = {
    "rubbish, and a key in X-API-Key": (b"Bearer @mark@", ((X_KEY, b"@admin@"),)),
    "rubbish, then a key in a second Authorization": (b"Bearer @mark@", ((b"Authorization", b"Bearer @admin@"),)),
    "rubbish in X-API-Key": (None, ((X_KEY, b"@mark@"),)),
    "a scheme in X-API-Key": (None, ((X_KEY, b"Bearer @admin@"),)),
    "a revoked key in X-API-Key": (None, ((X_KEY, b"@revoked@"),)),
    "an empty X-API-Key": (None, ((X_KEY, b""),)),
    "a key in a cookie": (None, ((b"Cookie", b"Authorization=Bearer @admin@"),)),
    "a key in Proxy-Authorization": (None, ((b"Proxy-Authorization", b"Bearer @admin@"),)),
}


def cases() -> Iterator[Case]:
    for name, key in REFUSED.items():
        yield Case(name, UNKNOWN, CODE, asks, key=key)
    for name, (key, headers) in MIXED.items():
        yield Case(name, UNKNOWN, CODE, asks, key=key, headers=headers)
    for name, (key, headers) in FINE.items():
        yield Case(name, on=asks, key=key, headers=headers)
    yield Case("a key in the query", UNKNOWN, CODE, asks, key=None, query=b"api_key=@admin@&access_token=@admin@")


def asks(route: Route) -> bool:
    return route.role is not None
