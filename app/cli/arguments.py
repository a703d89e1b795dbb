"""Arguments and options that several commands share."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class Number(click.FloatRange):
    """A finite one: Python reads nan and inf as numbers too, no range refuses nan, and JSON has neither."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{number} is no finite number.", param, ctx)
        return number


model_argument = click.argument("model", required=False)
model_option = click.option("-m", "--model", help="Which model, where there are several.")
job_argument = click.argument("job", type=click.IntRange(1))
limit_option = click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many, newest first."
)
file_argument = click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))


def waiting_options(flags: tuple[str, str], help: str) -> Callable[[Command], Command]:
    """The option that makes a command wait for its job, and how long it has patience."""

    def add(command: Command) -> Command:
        timeout = click.option(
            "--timeout",
            type=Number(min=0, min_open=True),
            help="Seconds to wait; then exit code 8.",
        )
        return click.option(*flags, "wait", is_flag=True, help=help)(timeout(command))

    return add


def examples(*lines: str) -> str:
    """The epilog of a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
