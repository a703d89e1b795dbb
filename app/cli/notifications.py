from typing import Any

import click

from app.cli.arguments import Number, examples, limit_option
from app.cli.client import Json, connect
from app.cli.failures import Exit, Failure
from app.cli.output import emit, json_option, record, say, table

SEVERITIES = ("P1", "P2", "P3", "P4")
STATES = ("pending", "delivered", "failed")
TARGET = ("name", "type", "url", "enabled", "failures", "error")
RULE = ("name", "target", "model", "kinds", "min_severity", "group_seconds", "cooldown_seconds", "enabled")
DELIVERY = ("id", "kind", "model", "target", "rule", "state", "attempts", "next_at", "created_at", "error")

name_argument = click.argument("name")
delivery_argument = click.argument("id", type=click.IntRange(1))


@click.group()
def notifications() -> None:
    """Who is told of what, and every message with its tries."""


@notifications.group()
def targets() -> None:
    """Where messages go: webhooks, and mail and chats through Apprise."""


@targets.command("list", epilog=examples("refit notifications targets list"))
@json_option
def list_targets() -> None:
    """Every target, without its secrets."""
    emit(connect().get("/notifications/targets"), lambda found: table(TARGET, (_row(each, TARGET) for each in found)))


@targets.command(
    epilog=examples(
        "refit notifications targets add pager https://pager.example.com/hook --header 'authorization: Bearer …'",
        "refit notifications targets add mail 'mailto://user:password@example.com' --type apprise",
    )
)
@name_argument
@click.argument("url")
@click.option("--type", type=click.Choice(["webhook", "apprise"]), default="webhook", show_default=True)
@click.option("--header", "headers", multiple=True, help="NAME: VALUE; may be given several times.")
@json_option
def add(name: str, url: str, type: str, headers: tuple[str, ...]) -> None:
    """Make a target and print the secret that its webhooks are signed with, once and never again."""
    body = {"name": name, "type": type, "url": url, "headers": _headers(headers)}
    _show_secret(connect().post("/notifications/targets", body))


@targets.command(epilog=examples("refit notifications targets rotate pager"))
@name_argument
@json_option
def rotate(name: str) -> None:
    """Make a new secret and print it. For a day messages are signed with both."""
    _show_secret(connect().post(f"/notifications/targets/{name}/rotate"))


@targets.command(epilog=examples("refit notifications targets enable pager"))
@name_argument
@json_option
def enable(name: str) -> None:
    """Send to it again."""
    _change(name, {"enabled": True})


@targets.command(epilog=examples("refit notifications targets disable pager"))
@name_argument
@json_option
def disable(name: str) -> None:
    """Send nothing more to it. What happens meanwhile is not told; what was waiting waits on."""
    _change(name, {"enabled": False})


@targets.command("remove", epilog=examples("refit notifications targets remove pager"))
@name_argument
@json_option
def remove_target(name: str) -> None:
    """Delete a target that no rule sends to."""
    emit(connect().delete(f"/notifications/targets/{name}"), lambda target: click.echo(target["name"]))


@notifications.group()
def rules() -> None:
    """Which events are told to which target."""


@rules.command("list", epilog=examples("refit notifications rules list"))
@json_option
def list_rules() -> None:
    """Every rule."""
    emit(connect().get("/notifications/rules"), lambda found: table(RULE, (_row(each, RULE) for each in found)))


@rules.command(
    "set",
    epilog=examples(
        "refit notifications rules set on-call --target pager --min-severity P2",
        "refit notifications rules set fraud --target mail -m fraud --kind 'slots.*' --kind job.failed",
    ),
)
@name_argument
@click.option("--target", required=True, help="Where it is told.")
@click.option("-m", "--model", help="Of this model only.  [every model]")
@click.option("--kind", "kinds", multiple=True, help="job.failed, incident.*; may be given several times.")
@click.option("--min-severity", type=click.Choice(SEVERITIES), help="Incidents less grave are not told.")
@click.option("--group", "group_seconds", type=Number(0), help="Seconds in which events make one message.")
@click.option("--cooldown", "cooldown_seconds", type=Number(0), help="Seconds in which the same is not told.")
@click.option("--off", is_flag=True, help="Keep the rule, and tell nothing.")
@json_option
def set_rule(name: str, kinds: tuple[str, ...], off: bool, **options: Any) -> None:
    """Make a rule, or replace it. Without --kind it tells what one would want to be woken for."""
    body = options | {"kinds": list(kinds) or None, "enabled": not off}
    given = {field: value for field, value in body.items() if value is not None}
    emit(connect().put(f"/notifications/rules/{name}", given), record)


@rules.command("remove", epilog=examples("refit notifications rules remove fraud"))
@name_argument
@json_option
def remove_rule(name: str) -> None:
    """Delete a rule."""
    emit(connect().delete(f"/notifications/rules/{name}"), lambda rule: click.echo(rule["name"]))


@notifications.group()
def deliveries() -> None:
    """Messages, and what became of them."""


@deliveries.command("list", epilog=examples("refit notifications deliveries list --state failed"))
@click.option("--target", help="To this target only.")
@click.option("--rule", help="Of this rule only.")
@click.option("-m", "--model", help="Of this model only.")
@click.option("--state", type=click.Choice(STATES))
@limit_option
@json_option
def list_deliveries(limit: int, **wanted: str | None) -> None:
    """Messages, newest first."""
    found = connect().pages("/notifications/deliveries", limit, **wanted)
    emit(found, lambda rows: table(DELIVERY, (_row(row, DELIVERY) for row in rows)))


@deliveries.command(epilog=examples("refit notifications deliveries show 12"))
@delivery_argument
@json_option
def show(id: int) -> None:
    """One message, with each of its tries."""
    emit(connect().get(f"/notifications/deliveries/{id}"), _show_delivery)


@notifications.command(epilog=examples("refit notifications redeliver 12"))
@delivery_argument
@json_option
def redeliver(id: int) -> None:
    """Send a message again, with the same id."""
    emit(connect().post(f"/notifications/deliveries/{id}/redeliver"), lambda delivery: click.echo(delivery["message"]))


@notifications.command(epilog=examples("refit notifications test pager"))
@name_argument
@json_option
def test(name: str) -> None:
    """Send a test message now, and say what became of it."""
    outcome: Json = connect().post(f"/notifications/targets/{name}/test")
    if not outcome["delivered"]:
        raise Failure(f"{name} was not reached: {outcome['error']}.", Exit.ERROR, document=outcome)
    emit(outcome, lambda told: click.echo(f"delivered in {told['ms']:g} ms"))


def _row(thing: Json, names: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(", ".join(thing[name]) if isinstance(thing[name], list) else thing[name] for name in names)


def _change(name: str, body: Json) -> None:
    emit(connect().patch(f"/notifications/targets/{name}", body), lambda target: click.echo(target["name"]))


def _show_secret(target: Json) -> None:
    emit(target, lambda made: click.echo(made["secret"] or made["name"]))
    if target["secret"]:
        say(f"the secret of {target['name']}; it is not shown again. The receiver verifies with it (Standard Webhooks)")


def _show_delivery(delivery: Json) -> None:
    record({name: value for name, value in delivery.items() if name != "tries"})
    names = ("attempt", "at", "status", "ms", "error")
    table(names, (_row(each, names) for each in delivery["tries"]), indent=2)


def _headers(lines: tuple[str, ...]) -> dict[str, str]:
    """Raises Failure for what is no header."""
    pairs = [line.partition(":") for line in lines]
    if any(not separator for _, separator, _ in pairs):
        raise Failure("A header reads NAME: VALUE.", Exit.USAGE)
    return {name.strip(): value.strip() for name, _, value in pairs}
