"""One thing that must hold before a training begins, with its figure."""

from dataclasses import dataclass, field
from typing import Any, Literal

from app.errors import RefitError


@dataclass(frozen=True)
class Check:
    """`value` was found, `required` is asked for; null where it could not be told in time, or nothing is asked.

    `code` is what a refusal is called. `binds`: every trigger, automatic ones only, or nobody: then it is shown and
    blocks nothing. `forceable`: an operator may pass over it, with a reason. `fault`: why it could not be asked at all.
    """

    code: str
    passed: bool
    value: Any
    required: Any
    message: str
    remedy: str
    forceable: bool = True
    binds: Literal["every", "automatic", "nobody"] = "every"
    details: dict[str, Any] | None = None
    fault: RefitError | None = field(default=None, repr=False, compare=False)

    def figures(self) -> dict[str, Any]:
        """As a refusal and the record of a forced job name it."""
        names = ("code", "message", "remedy", "value", "required", "forceable")
        return {name: getattr(self, name) for name in names}


def a_worker_for(queue: str) -> str:
    """The way out where nobody serves `queue`."""
    ours = "cpu" if queue == "cpu" else f"cpu,{queue}"
    return f"Start a worker with REFIT_QUEUES={queue}, or Refit itself again with `refit up --queues {ours}`."
