"""The whole table: every route × every method × everybody who may call, each cell with the one status that is right."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from app.auth.roles import NOBODY_ASKED, Role
from benchmarks.bad_input.case import Case
from benchmarks.bad_input.routes import HEADS, ROUTES, Route

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE")
NO_KEY: Mapping[str, bytes | None] = {
    "no key": None,
    "a revoked key": b"Bearer @revoked@",
    "a made-up key": b"Bearer refit_0123456789ab_" + b"0" * 64,
}


@dataclass(frozen=True)
class Cell:
    """One call, and what is right for it."""

    case: Case
    route: Route


def cells() -> Iterator[Cell]:
    """Every path once with each method and each caller."""
    declared = {(route.method, route.path): route for route in ROUTES}
    for path in dict.fromkeys(route.path for route in ROUTES):
        sample = next(route for route in ROUTES if route.path == path)
        for method in METHODS:
            route = declared.get((method, path))
            asked = route or replace(sample, method=method, body=None)
            for caller, key in _callers():
                yield Cell(_case(caller, key, route, asked), asked)


def _callers() -> Iterator[tuple[str, bytes | None]]:
    yield from NO_KEY.items()
    yield from ((role.value, f"Bearer @{role}@".encode()) for role in Role)


def _case(caller: str, key: bytes | None, route: Route | None, asked: Route) -> Case:
    name = f"{asked.method} by {caller}"
    if route is None:
        found = asked.method == "HEAD" and asked.path in HEADS
        return _told(name, key, 200 if found else 405, None if found else "method_not_allowed")
    if route.role is None:
        return _told(name, key, route.status, route.code)
    if caller in NO_KEY:
        return _told(name, key, 401, "unauthenticated")
    principal = replace(NOBODY_ASKED, roles=frozenset({Role(caller)}))
    if not any(principal.may(role) for role in (route.role, route.other) if role is not None):
        return _told(name, key, 403, "forbidden")
    return _told(name, key, route.status, route.code)


def _told(name: str, key: bytes | None, status: int, code: str | None) -> Case:
    return Case(name, frozenset({status}), frozenset({code} if code else ()), key=key)
