"""Who the servers run as. Postgres refuses root, so root runs both servers as an account without rights."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from app.cli.embedded import CannotStart

UNPRIVILEGED = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    name: str
    uid: int
    gid: int

    def owns(self, path: Path) -> None:
        os.chown(path, self.uid, self.gid)

    def reaches(self, path: Path) -> bool:
        """Whether every folder on the way to `path` lets this account through."""
        return all(self._enters(folder) for folder in path.resolve().parents)

    def _enters(self, folder: Path) -> bool:
        stat = folder.stat()
        shift = 6 if stat.st_uid == self.uid else 3 if stat.st_gid == self.gid else 0
        return bool(stat.st_mode >> shift & 0o1)


def server_account() -> Account | None:
    """None: the servers run as whoever we are. Raises CannotStart where Postgres could not."""
    if os.geteuid() != 0:
        _require_a_name(os.geteuid())
        return None
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise CannotStart(
        f"Postgres does not run as root, and there is no account {' or '.join(UNPRIVILEGED)} to run it as.",
        remedy="Run `refit up` as another user, or set REFIT_DATABASE_URL and REFIT_BROKER_URL.",
    )


def _require_a_name(uid: int) -> None:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise CannotStart(
            f"Postgres does not run as a user without a name, and uid {uid} has no line in /etc/passwd.",
            remedy="Add one, run as another user, or set REFIT_DATABASE_URL and REFIT_BROKER_URL.",
        ) from None
