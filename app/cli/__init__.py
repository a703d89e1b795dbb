"""The `refit` command. Each subcommand is imported when it is called, so that the ones that only ask start fast."""

import importlib
from collections.abc import Mapping
from itertools import takewhile

import click

from app.cli.failures import MEANINGS, Exit, Failure
from app.cli.output import JSON, as_json

# Section → command → (where it is, what it does).
SECTIONS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "The service": {
        "up": ("app.cli.up:up", "Start Refit on this machine, until Ctrl-C."),
        "demo": ("app.cli.demo:demo", "Train, compare, swap and roll back a model in front of you."),
        "migrate": ("app.cli.migrate:migrate", "Bring a database to the schema of this version."),
        "doctor": ("app.cli.doctor:doctor", "Look at everything, and say what is wrong and the way out."),
    },
    "Models and their training": {
        "models": ("app.cli.models:models", "Definitions: apply, list, show."),
        "trigger": ("app.cli.trigger:trigger", "Ask for a training."),
        "status": ("app.cli.status:status", "The running or newest job of a model."),
        "prerequisites": ("app.cli.prerequisites:prerequisites", "What a trigger would be answered, with figures."),
        "schedule": ("app.cli.schedule:schedule", "Schedules: when they are due, what came of the last time."),
        "data": ("app.cli.data:data", "Data versions: take, label, list, show, export."),
        "jobs": ("app.cli.jobs:jobs", "Jobs: list, show, logs, cancel, resume."),
    },
    "Versions and slots": {
        "versions": ("app.cli.versions:versions", "Versions: list, show, diff, stage."),
        "sheet": ("app.cli.signoff:sheet", "The evaluation sheet of a version: both answers, blind."),
        "signoff": ("app.cli.signoff:signoff", "Approve or reject a version, before its reload."),
        "release-notes": ("app.cli.records:release_notes", "What is new, better, worse and known not to be right."),
        "slots": ("app.cli.slots:slots", "What is active and standby, and what each replica holds."),
        "reload": ("app.cli.slots:reload", "Swap active and standby everywhere."),
        "rollback": ("app.cli.slots:rollback", "Back to the version that was active before."),
        "hold": ("app.cli.slots:hold", "Pin the slots: nothing automatic changes them."),
        "unhold": ("app.cli.slots:unhold", "Lift a hold."),
        "canary": ("app.cli.trials:canary", "Let standby answer a share of the callers: start, stop, show."),
        "shadow": ("app.cli.trials:shadow", "Ask standby what active has answered: start, stop, show."),
        "history": ("app.cli.slots:history", "Who was active when, and on whose say."),
    },
    "What decides": {
        "monitors": ("app.cli.monitors:monitors", "Monitors: check, list, log."),
        "watches": ("app.cli.watches:watches", "The watches of swaps: list, show."),
    },
    "Everything else": {
        "predict": ("app.cli.predict:predict", "Predict the rows of a file."),
        "chat": ("app.cli.chat:chat", "Ask a language model one thing."),
        "evaluation": ("app.cli.evaluation:evaluation", "How a language model answered, beside the incumbent."),
        "record": ("app.cli.records:record", "The change record of a retraining."),
        "archive": ("app.cli.records:archive", "What a job left behind, to be kept elsewhere."),
        "retention": ("app.cli.records:retention", "What is kept for how long: run."),
        "incidents": ("app.cli.incidents:incidents", "Incidents: list, show, open, ack, close."),
        "notifications": ("app.cli.notifications:notifications", "Who is told of what: targets, rules, deliveries."),
        "report": ("app.cli.report:report", "What became of answers: feedback, learning, metric, show."),
        "keys": ("app.cli.keys:keys", "API keys: create, list, revoke, bootstrap."),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}

EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in MEANINGS.items())


class Refit(click.Group):
    """Finds subcommands by the table above, and ends with the documented exit codes."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, summary) for name, (_, summary) in commands.items()])

    def invoke(self, ctx: click.Context) -> object:
        # Whatever stands wrong on the line is found before --json is, or after.
        wants_json = "--json" in takewhile(lambda argument: argument != "--", ctx.args)
        try:
            return super().invoke(ctx)
        except Failure as failure:
            failure.show(json=bool(ctx.meta.get(JSON)))
            ctx.exit(failure.exit)
        except click.ClickException as error:
            if wants_json or ctx.meta.get(JSON):
                click.echo(as_json(Failure(error.format_message(), Exit(error.exit_code)).document))
            raise
        except KeyboardInterrupt:
            click.echo(err=True)
            ctx.exit(Exit.DETACHED)


@click.group(cls=Refit, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="refit", message="refit %(version)s")
def main() -> None:
    """Refit retrains models, proves that the new one is better, and swaps it in without dropping a request.

    It talks to the service of REFIT_URL with the key REFIT_API_KEY; without them, to the one that `refit up`
    started on this machine. Answers go to stdout, everything else to stderr; --json makes answers JSON.
    """
