"""`refit demo`: a model's life from its definition to a rollback, on real data, in front of whoever wonders."""

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from types import FrameType

import click

from app.cli.arguments import examples
from app.cli.client import Json
from app.cli.demo import data, service, steps
from app.cli.demo.story import Story
from app.cli.failures import Exit, Failure
from app.cli.output import as_json, json_option, wants_json


@click.command(epilog=examples("refit demo", "refit demo --keep      # and look around afterwards"))
@click.option("--keep", is_flag=True, help="Leave the folder with its database, artifacts and logs.")
@json_option
def demo(keep: bool) -> None:
    """Train, compare, swap and roll back a model in front of you.

    It starts a Refit of its own on a free port, in a temporary folder, and needs nothing but the extras worker and
    embedded. The last line says how long it took, and `ok`; or `short`, with exit code 1, where it did not do all
    that it promises.
    """
    with _ended_in_order(), ExitStack() as stack:
        if wants_json():
            stack.enter_context(redirect_stdout(sys.stderr))
        folder = Path(tempfile.mkdtemp(prefix="refit-demo-"))
        stack.callback(_clear, folder, keep)
        story = Story()
        figures = _tell(story, folder)
    _conclude(story, figures)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """A terminal that is closed or a CI that loses patience stops the service and clears the folder, as Ctrl-C does."""

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    handlers = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _tell(story: Story, folder: Path) -> Json:
    """The figures of the story; what went wrong is told and counts as a shortfall."""
    rows = data.biopsies()
    click.secho(f"Refit shows a model's life, on {len(rows)} real biopsies that ship with scikit-learn.", bold=True)
    story.step("A Refit of its own")
    try:
        with service.running(folder) as api:
            story.tell(f"Postgres, broker, API and worker run, after {story.seconds:.1f} s: {api.http.base_url}")
            return steps.tell_all(story, api, folder / "biopsies.csv", rows)
    except Failure as failure:
        failure.show(json=False)
        story.shortfalls.append(failure.message)
        return {}


def _clear(folder: Path, keep: bool) -> None:
    if keep:
        click.echo(f"\nkept: REFIT_DATA_DIR={folder / 'data'} refit up", err=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _conclude(story: Story, figures: Json) -> None:
    """The last line: how long, what was found, and whether it was all that was promised."""
    word = "short" if story.shortfalls else "ok"
    told = [f"{story.seconds:.1f} s"]
    if figures:
        told += [
            f"training {figures['training_seconds']:.1f} s",
            f"p99 {figures['p99_ms']:.1f} ms",
            f"{figures['answered']} requests during the swap, {figures['dropped']} dropped",
        ]
    if wants_json():
        all_figures = {"seconds": round(story.seconds, 1)} | figures
        click.echo(as_json(all_figures | {"result": word, "shortfalls": story.shortfalls}))
    else:
        click.echo(f"\ndemo: {', '.join(told)} {word}")
    if story.shortfalls:
        click.get_current_context().exit(Exit.ERROR)
