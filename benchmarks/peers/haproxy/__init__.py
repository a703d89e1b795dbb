"""HAProxy before two servers of one kind, `blue` and `green`, of which one gets the requests."""

from dataclasses import dataclass
from pathlib import Path
from socket import AF_UNIX, socket

from benchmarks.peers import Command, Peer, Request, Rows, Start

CONFIGURATION = """
global
    stats socket {orders} level admin
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 60s
listen model
    bind 127.0.0.1:{port}
    server blue 127.0.0.1:{blue}
    server green 127.0.0.1:{green} disabled
"""


@dataclass(frozen=True)
class HAProxy:
    """Sends everything to the port `blue` until it is ordered otherwise, on the socket `orders`."""

    behind: Peer
    blue: int
    green: int
    orders: Path
    name: str = "HAProxy"
    environment: str | None = None
    most_processes: int | None = 1

    def command(self, start: Start) -> Command:
        configuration = start.scratch / "haproxy.cfg"
        ports = {"port": start.port, "blue": self.blue, "green": self.green}
        configuration.write_text(CONFIGURATION.format(orders=self.orders, **ports))
        return Command(["haproxy", "-db", "-f", str(configuration)])

    def request(self, rows: Rows) -> Request:
        return self.behind.request(rows)

    def scores(self, answer: bytes) -> list[float]:
        return self.behind.scores(answer)

    def switch(self) -> None:
        """Green gets every request from here on; blue finishes what it has. Raises RuntimeError."""
        for order in ("set server model/green state ready", "set server model/blue state drain"):
            with socket(AF_UNIX) as asked:
                asked.connect(str(self.orders))
                asked.sendall(f"{order}\n".encode())
                if said := asked.recv(4096).strip():  # it says nothing to an order that it follows
                    raise RuntimeError(f"HAProxy on {order!r}: {said.decode()}")
