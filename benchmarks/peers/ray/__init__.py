"""Ray Serve on a Ray of its own, behind its Python proxy or behind the HAProxy that it starts in its place."""

import json
from dataclasses import dataclass

from benchmarks.peers import Command, Request, Rows, Start, post
from benchmarks.peers.ports import free


@dataclass(frozen=True)
class RayServe:
    name: str
    haproxy: bool
    environment: str = "ray"
    most_processes: int | None = None

    def command(self, start: Start) -> Command:
        settings = self._haproxy(start) if self.haproxy else {}
        arguments = [str(start.port), str(start.processes), str(start.scratch)]
        return Command([str(start.bin / "python"), "-m", f"{__name__}.server", *arguments], settings)

    def request(self, rows: Rows) -> Request:
        return post("/predict", {"instances": rows})

    def scores(self, answer: bytes) -> list[float]:
        scores: list[float] = json.loads(answer)["scores"]
        return scores

    def _haproxy(self, start: Start) -> dict[str, str]:
        """Everything that it writes goes into the scratch folder, and its metrics to a port of their own."""
        return {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(start.scratch / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(start.scratch / "admin.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(start.scratch),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(free(1)[0]),
        }


DEFAULT = RayServe("Ray Serve", haproxy=False)
BEHIND_HAPROXY = RayServe("Ray Serve behind HAProxy", haproxy=True)
