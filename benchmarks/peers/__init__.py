"""What a user would pick instead of Refit: each peer starts, takes rows and gives scores by one contract.

    environments.py   a virtual environment for each peer, built where there is none yet
    model.py          what all of them serve: the very graph that Refit trained, and a second version of it for a swap
    launch.py         a peer as processes of its own: started, ready, weighed, gone
    all.py            which of them are measured
    ports.py          free ports
    graph.py          the graph as a function, for the servers that are written by their user
    <name>/           one peer: its requirements, its server, and in __init__.py how it is started and asked

This module, `graph`, `ports` and each peer's __init__.py are also imported by the peers' own servers, in environments
that have none of Refit's libraries.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

# n rows of 30 numbers each.
Rows = Sequence[Sequence[float]]
# The folder of a model.Version that the peer serves; its server finds it under this name in its environment.
MODEL = "PEER_MODEL"


@dataclass(frozen=True)
class Request:
    """One POST that carries rows, as the peer's own documentation would have it."""

    path: str
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_headers(self) -> dict[str, str]:
        return {"Content-Type": self.content_type, **self.headers}


@dataclass(frozen=True)
class Start:
    """How a peer is started: on `port` of the loopback, with so many processes, from the `model` folder.

    `bin` is the folder of its environment's commands and `scratch` an empty one for what it writes.
    """

    bin: Path
    model: Path
    port: int
    processes: int
    scratch: Path


@dataclass(frozen=True)
class Command:
    """A process: what is run, with which variables on top of the environment, and what must have run before it."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    before: Sequence[str] = ()


class Peer(Protocol):
    """A system under measurement, with the settings that a careful user would give it.

    `name` is what the tables call it. `environment` names the folder beside this file whose requirements it runs on;
    None is the project's own environment. `most_processes` is what it can make use of; None: any number.
    """

    @property
    def name(self) -> str: ...

    @property
    def environment(self) -> str | None: ...

    @property
    def most_processes(self) -> int | None: ...

    def command(self, start: Start) -> Command:
        """The process that serves; it may start others."""
        ...

    def request(self, rows: Rows) -> Request: ...

    def scores(self, answer: bytes) -> list[float]:
        """Of a 200's body: the positive class's probability of each row."""
        ...


def post(path: str, body: Any) -> Request:
    """A request with `body` as JSON, without the spaces that json would put into it."""
    return Request(path, json.dumps(body, separators=(",", ":")).encode())
