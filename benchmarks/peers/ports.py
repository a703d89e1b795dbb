"""Free ports for what a peer opens beside its own. Standard library only: the peers' environments read it too."""

import socket
from contextlib import ExitStack


def free(count: int) -> list[int]:
    """So many ports of the loopback that are free now; all different, since all are held until the last is found."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
