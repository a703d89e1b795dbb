"""The parts of `refit demo`. The whole of it, with a real service, is `make demo`, which CI runs."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sklearn.datasets import load_breast_cancer

from app.cli.client import Api
from app.cli.demo import data, steps
from app.cli.demo.traffic import Answers, traffic
from app.cli.failures import Exit, Failure
from tests.cli.made_up import URL, MadeUpService, Refit, problem


def test_the_rows_are_those_of_scikit_learn() -> None:
    rows, theirs = data.biopsies(), load_breast_cancer()
    ours = [[*data.instance(row).values()] for row in rows]
    assert ours == theirs.data.tolist()
    assert [row[-1] for row in rows] == [theirs.target_names[target] for target in theirs.target]
    assert len({row[0] for row in rows}) == 569


def test_the_features_have_the_names_of_scikit_learn() -> None:
    assert [name.replace(" ", "_") for name in load_breast_cancer().feature_names] == list(data.FEATURES)


def test_without_scikit_learn_it_says_what_to_install(refit: Refit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = refit("demo")
    assert result.exit_code == Exit.USAGE
    assert "pip install 'refit[worker,embedded]'" in result.stderr


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_demo_that_falls_short_says_so_and_clears_up(
    refit: Refit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str]
) -> None:
    @contextmanager
    def broken(folder: Path) -> Iterator[Api]:
        raise Failure("Postgres did not start.", Exit.ERROR)
        yield

    monkeypatch.setattr("app.cli.demo.service.running", broken)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    result = refit("demo", *options)
    assert result.exit_code == 1
    assert "Error: Postgres did not start." in result.stderr
    assert ('"result": "short"' if options else "\ndemo: ") in result.stdout
    assert options or result.stdout.splitlines()[-1].endswith("short")
    assert list(tmp_path.iterdir()) == []


def test_a_request_that_fails_during_the_swap_counts_as_dropped(service: MadeUpService) -> None:
    import httpx

    answer = {"labels": ["benign"], "scores": [0.1], "version": 1}
    service.on("POST /predict/batch", answer, problem(503, "loading"), answer | {"version": 2})
    with httpx.Client(base_url=URL) as http, traffic(Api(http), "m", [{"x": 1.0}]) as answers:
        while len(service.asked) < 3:
            pass
    assert answers.dropped == 1
    assert answers.versions == [1, 2]


def test_the_p99_of_a_hundred_requests_is_the_second_slowest() -> None:
    assert Answers(milliseconds=[float(n) for n in range(100)]).p99 == 98.0


def test_what_was_awaited_in_vain_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "WAIT_SECONDS", 0.0)
    with pytest.raises(Failure, match="a worker"):
        steps._until(lambda: False, "a worker")
