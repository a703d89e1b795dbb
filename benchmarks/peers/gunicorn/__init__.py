"""The bare application under gunicorn, which at SIGHUP replaces its workers by new ones, and those load the graph anew.

uvicorn's worker takes uvloop and httptools by itself where they are installed.
"""

from dataclasses import dataclass

from benchmarks.peers import Command, Request, Rows, Start
from benchmarks.peers.uvicorn import BARE


@dataclass(frozen=True)
class Gunicorn:
    name: str = "gunicorn + bare uvicorn worker"
    environment: str | None = "gunicorn"
    most_processes: int | None = None

    def command(self, start: Start) -> Command:
        listening = ("--bind", f"127.0.0.1:{start.port}", "--workers", str(start.processes))
        worker = ("--worker-class", "uvicorn_worker.UvicornWorker", "--log-level", "warning")
        return Command([str(start.bin / "gunicorn"), *listening, *worker, "benchmarks.peers.uvicorn.bare:app"])

    def request(self, rows: Rows) -> Request:
        return BARE.request(rows)

    def scores(self, answer: bytes) -> list[float]:
        return BARE.scores(answer)


GUNICORN = Gunicorn()
