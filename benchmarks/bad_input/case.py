"""What a case is: one way of asking wrongly, to which routes it applies, and the only answers that are right."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.bad_input.routes import Route

Header = tuple[bytes, bytes]
JSON_TYPE: Header = (b"Content-Type", b"application/json")
# The letters of a key's secret, give or take a few: its id is public.
SECRET = 60
# As a status: the connection is closed without an answer, which is due to nobody who hangs up in the middle.
CLOSED = 0


def every(_: Route) -> bool:
    return True


def takes_body(route: Route) -> bool:
    return route.body is not None


def needs_body(route: Route) -> bool:
    return route.body is not None and not route.body_optional


def is_hot(route: Route) -> bool:
    return route.is_hot


def is_cold(route: Route) -> bool:
    return takes_body(route) and not route.is_hot


def only(*names: str) -> Callable[[Route], bool]:
    """The routes that are called so, such as `POST /keys`."""
    return lambda route: str(route) in names


@dataclass(frozen=True)
class Case:
    """What is not set is as in the harmless request of the route, and so is the answer where `statuses` is None.

    Templates know @mark@ (a word that is in no other case, and may not come back), @field@ (a field of the route that
    takes text), @plain@ (the route's harmless body) and the keys by name, such as @viewer@.

    `tail` stands for everything behind the common headers, framing and body included. `length` pads the body with
    spaces. `by_server`: the HTTP server answers by itself, in plain text, and closes; Refit never sees it.
    """

    name: str
    statuses: frozenset[int] | None = None
    codes: frozenset[str] = frozenset()
    on: Callable[[Route], bool] = every
    key: bytes | None = b"Bearer @admin@"
    headers: tuple[Header, ...] = ()
    content_type: Header | None = JSON_TYPE
    body: str | bytes | None = None
    encoding: str = "utf-8"
    length: int | None = None
    chunked: bool = False
    parameter: bytes | None = None
    query: bytes | None = None
    line: bytes | None = None
    tail: bytes | None = None
    hangs_up: bool = False
    by_server: bool = False
    tells: tuple[bytes, ...] = ()

    @property
    def is_raw(self) -> bool:
        """Needs a connection of its own: what the server makes of the rest of it is not known."""
        return self.line is not None or self.tail is not None or self.hangs_up or self.by_server


@dataclass(frozen=True)
class Message:
    """The bytes of a request, and what may not stand in its answer."""

    method: str
    sent: bytes
    tells: tuple[bytes, ...]


def message(case: Case, route: Route, keys: Mapping[str, str]) -> Message:
    """The request of this case to this route. The same one each time."""
    mark = "zq" + hashlib.sha256(f"{case.name} {route}".encode()).hexdigest()[:14]
    words = {"@mark@": mark, "@field@": route.text, "@plain@": json.dumps(route.body)}
    words |= {f"@{name}@": key for name, key in keys.items()}
    secrets = (key.rpartition("_")[2].encode() for key in keys.values())
    told = (mark.encode(), *case.tells, *(secret for secret in secrets if len(secret) >= SECRET))
    return Message(route.method, _filled(_head(case, route) + _rest(case, route, words), words), told)


def _head(case: Case, route: Route) -> bytes:
    line = case.line or f"{route.method} ".encode() + _target(case, route) + b" HTTP/1.1"
    key = () if case.key is None else ((b"Authorization", case.key),)
    lines = [line, b"Host: refit", *(name + b": " + value for name, value in (*key, *case.headers))]
    return b"\r\n".join(lines) + b"\r\n"


def _target(case: Case, route: Route) -> bytes:
    query = route.query.encode() if case.query is None else case.query
    at = dict(route.at)
    if case.parameter is not None:
        at[[*at][-1]] = "@parameter@"
    path = route.path.format(**at).encode().replace(b"@parameter@", case.parameter or b"")
    return path + (b"?" + query if query else b"")


def _rest(case: Case, route: Route, words: Mapping[str, str]) -> bytes:
    """The headers that frame the body, and the body."""
    if case.tail is not None:
        return case.tail
    body = _body(case, route, words)
    if body is None:
        return b"\r\n"
    typed = b"" if case.content_type is None else b": ".join(case.content_type) + b"\r\n"
    if case.chunked:
        return typed + b"Transfer-Encoding: chunked\r\n\r\n" + chunks(body)
    return typed + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _body(case: Case, route: Route, words: Mapping[str, str]) -> bytes | None:
    told = case.body if case.body is not None else None if route.body is None else "@plain@"
    if told is None:
        return None
    body = (
        _filled(told, words) if isinstance(told, bytes) else _text(told, words).encode(case.encoding, "surrogatepass")
    )
    return body if case.length is None else body.ljust(case.length)


def chunks(body: bytes, size: int = 65_536) -> bytes:
    """`body` in Transfer-Encoding: chunked."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def _text(template: str, words: Mapping[str, str]) -> str:
    for name, word in words.items():
        template = template.replace(name, word)
    return template


def _filled(template: bytes, words: Mapping[str, str]) -> bytes:
    for name, word in words.items():
        template = template.replace(name.encode(), word.encode())
    return template
