"""What JSON cannot hold never leaves the machine and never ends in a stack trace: exit code 2, and where it stands."""

import json

import click
import pytest

from app.cli import main
from app.cli.arguments import Number
from app.cli.sendable import flaw
from tests.cli.made_up import MadeUpService, Refit
from tests.cli.test_commands import commands


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("report metric bleu -m fraud -- @", "VALUE"),
        ("report learning -- @", "ACCEPT_RATE"),
        ("canary start fraud --reason x --share @", "--share"),
        ("shadow start fraud --reason x --minutes @", "--minutes"),
        ("notifications rules set r --target pager --group @", "--group"),
        ("status --timeout @", "--timeout"),
    ],
)
def test_a_number_that_is_none_is_refused_by_its_name(
    service: MadeUpService, refit: Refit, command: str, named: str, value: str
) -> None:
    result = refit(*command.replace("@", value).split())
    assert (result.exit_code, result.stdout, service.asked) == (2, "", [])
    assert named in result.stderr


def test_every_fraction_on_the_command_line_is_a_finite_number() -> None:
    fractions = [
        parameter.type
        for _, command in commands(main)
        for parameter in command.params
        if isinstance(parameter.type, click.FloatRange) or parameter.type == click.FLOAT
    ]
    assert len(fractions) > 5
    assert all(isinstance(each, Number) for each in fractions)


@pytest.mark.parametrize("value", [".nan", ".inf", "2026-01-01", "[1, {a: .nan}]"])
def test_what_a_request_cannot_hold_is_named_by_its_path(service: MadeUpService, refit: Refit, value: str) -> None:
    result = refit("trigger", "fraud", "-p", f"x={value}")
    assert (result.exit_code, service.asked) == (2, [])
    assert "params.x" in result.stderr


@pytest.mark.parametrize("name", ["a\nb", "\udcff"])
def test_a_name_that_no_address_can_hold_is_refused(service: MadeUpService, refit: Refit, name: str) -> None:
    result = refit("notifications", "targets", "rotate", name, "--json")
    assert (result.exit_code, service.asked) == (2, [])
    assert json.loads(result.stdout)["code"] == "usage"


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (".nan", "fraud: gate.f1.delta is nan"),
        ("2026-01-01", "fraud: gate.f1.delta is a date"),
        ("[1, .inf]", "fraud: gate.f1.delta.1 is inf"),
        ("&x {a: *x}", "fraud: gate.f1.delta.a holds itself"),
        ("{2026-01-01: 1}", "fraud: a name in gate.f1.delta is a date"),
    ],
)
def test_apply_names_the_field_that_cannot_be_sent(
    service: MadeUpService, refit: Refit, value: str, named: str
) -> None:
    result = refit("models", "apply", "-", stdin=f"fraud: {{gate: {{f1: {{delta: {value}}}}}}}")
    assert (result.exit_code, service.asked) == (2, [])
    assert named in result.stderr


def test_what_json_holds_has_no_flaw() -> None:
    assert flaw({"a": [1, 2.5, None, True, "é", {"b": {}}], 3: "x"}) is None
