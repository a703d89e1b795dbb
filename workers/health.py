"""`python3 -m workers.health`: exit 0 while a worker of this host holds its lease, 1 with the reason where none does.

For a container's health check, where the host is the container. The broker is not asked: jobs run without it.
"""

import socket
import sys

import psycopg

from app.settings import Settings, settings

HOLDS_A_LEASE = "SELECT EXISTS (SELECT FROM workers WHERE host = %s AND lease_until > clock_timestamp())"


def why_unhealthy(config: Settings, host: str) -> str | None:
    """None while a worker of `host` lives."""
    try:
        url = config.database.replace("postgresql+psycopg://", "postgresql://", 1)
        with psycopg.connect(url, connect_timeout=5) as connection:
            row = connection.execute(HOLDS_A_LEASE, [host]).fetchone()
    except (ValueError, psycopg.Error) as error:
        return str(error).strip()
    return None if row == (True,) else f"no worker on {host} holds a lease"


if __name__ == "__main__":
    sys.exit(why_unhealthy(settings(), socket.gethostname()))
