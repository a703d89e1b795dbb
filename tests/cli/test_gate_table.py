"""The gate's report as people read it."""

from typing import Any

import pytest

from app.cli.gate_table import show_gate
from tests.cli.made_up import gate


def criterion(name: str, slice: str | None, verdict: str, delta: float | None) -> dict[str, Any]:
    one: dict[str, Any] = gate()["criteria"][0]
    return one | {"name": name, "slice": slice, "verdict": verdict, "delta": delta}


def shown(capsys: pytest.CaptureFixture[str], **changes: Any) -> tuple[list[str], str]:
    show_gate(gate() | changes)
    said = capsys.readouterr()
    return said.out.splitlines(), said.err


def test_slices_come_after_the_whole_and_the_worst_first(capsys: pytest.CaptureFixture[str]) -> None:
    criteria = [
        criterion("f1[region=south]", "region=south", "pass", 0.01),
        criterion("f1[region=east]", "region=east", "pass", -0.01),
        criterion("f1[region=north]", "region=north", "fail", -0.08),
        criterion("f1[region=(other)]", "region=(other)", "not_applicable", None),
        criterion("f1", None, "pass", 0.01),
    ]
    lines, said = shown(capsys, criteria=criteria)
    assert [line.split()[0] for line in lines[1:]] == [
        "f1",
        "f1[region=north]",
        "f1[region=east]",
        "f1[region=south]",
        "f1[region=(other)]",
    ]
    assert "+0.0000 to +0.0200" in lines[1]
    assert "Of 4 criteria of slices: 1 fail, 2 pass, 1 not applicable." in said


def test_of_many_slices_the_worst_are_shown_and_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    criteria = [criterion(f"f1[shop={i}]", f"shop={i}", "pass", i / 1_000) for i in range(50)]
    lines, said = shown(capsys, criteria=criteria)
    assert len(lines) == 21
    assert lines[1].startswith("f1[shop=0]")
    assert "Of 50 criteria of slices: 50 pass; the 20 worst are shown." in said


def test_rows_that_did_not_judge_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    _, said = shown(capsys, excluded={"candidate": 0, "incumbent": 12})
    assert "Rows left out: 12 that the incumbent was trained on." in said
    _, said = shown(capsys, excluded={"candidate": 0, "incumbent": None}, leak_reason="nobody knows")
    assert "Leak check unknown: nobody knows." in said
