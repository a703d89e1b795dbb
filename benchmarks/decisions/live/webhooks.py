"""Who is told: a target that hangs first and answers 500 then, and one whose name leads to where none may go."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

from app.cli.client import Json
from benchmarks.decisions import Figure
from benchmarks.service import Service, until

# What the service is told, so that hours of tries are seconds.
TIMEOUT_SECONDS = 1.5
EARS = "127.0.0.2"
# A name: an address that is none to be called is refused when it is named.
INSIDE = "localhost"
SETTINGS = {
    "REFIT_NOTIFICATION_NETWORKS": f"{EARS}/32",
    "REFIT_NOTIFICATION_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
    "REFIT_NOTIFICATION_RETRY_SECONDS": "0.5,0.5,1",
}
KINDS = ["watch.rolled_back", "incident.opened"]


@dataclass
class Heard:
    """Tries in the order in which they came, and what was answered: 0 where nothing was."""

    port: int
    tries: list[tuple[int, Json, dict[str, str], bytes]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    def hear(self, headers: dict[str, str], body: bytes) -> int:
        with self.lock:
            status = {0: 0, 1: 500}.get(len(self.tries), 204)
            self.tries.append((status, json.loads(body), headers, body))
            return status

    @property
    def taken(self) -> list[tuple[int, Json, dict[str, str], bytes]]:
        with self.lock:
            return [each for each in self.tries if each[0] == 204]


@contextmanager
def listening(address: str) -> Iterator[Heard]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = heard.hear({name.lower(): value for name, value in self.headers.items()}, body)
            if not status:
                heard.over.wait(10 * TIMEOUT_SECONDS)
                return
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer((address, 0), Handler)
    heard = Heard(server.server_address[1])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield heard
    finally:
        heard.over.set()
        server.shutdown()
        server.server_close()


def subscribe(service: Service, ears: Heard, inside: Heard) -> str:
    """The secret by which messages to the first are signed."""
    urls = {"ears": f"http://{EARS}:{ears.port}/refit", "inside": f"http://{INSIDE}:{inside.port}/refit"}
    secrets = {}
    for name, url in urls.items():
        secrets[name] = str(service.api.post("/notifications/targets", {"name": name, "url": url})["secret"])
        rule = {"target": name, "kinds": KINDS, "group_seconds": 0, "cooldown_seconds": 0}
        service.api.put(f"/notifications/rules/{name}", rule)
    return secrets["ears"]


def heard_of(service: Service, ears: Heard, inside: Heard, secret: str) -> Iterator[Figure]:
    happened = sorted(event["id"] for kind in KINDS for event in service.api.pages("/events", 1_000, kind=kind))
    until(lambda: len(ears.taken) >= len(happened), "every message to be taken")
    told = sorted(message["data"]["event"]["id"] for _, message, _, _ in ears.taken)
    ids = Counter(headers["webhook-id"] for _, _, headers, _ in ears.taken)
    for _, _, headers, body in ears.tries:
        Webhook(secret).verify(body, headers)
    failed = [status or "hung" for status, *_ in ears.tries if status != 204]
    before = ", ".join(map(str, failed))
    yield Figure(
        f"{len(happened)} events, {len(told)} messages taken, before that: {before}",
        told == happened and set(ids.values()) == {1},
    )
    yield _refused(service, inside)


def _refused(service: Service, inside: Heard) -> Figure:
    def failed() -> list[Json]:
        return service.api.pages("/notifications/deliveries", 100, target="inside", state="failed")

    last = until(failed, "the other target's messages to be given up")[0]
    tries = service.api.get(f"/notifications/deliveries/{last['id']}")["tries"]
    right = all("is no public address" in each["error"] for each in tries) and not inside.tries
    return Figure(f"{INSIDE}: {len(tries)} tries, {last['error'].partition(';')[0]}", right and bool(tries))
