"""The models that `make verify` searches: what they may leave out, and what is said where Spin is missing."""

import shutil

import pytest

from benchmarks.verify import models, spin
from benchmarks.verify.spin import Search

has_spin = pytest.mark.skipif(shutil.which("spin") is None, reason="apt-get install spin gcc")


@pytest.mark.parametrize("model", ["job", "swap"])
def test_each_model_has_at_least_eight_broken_variants(model: str) -> None:
    assert len(models.variants(model)) >= 8


def test_what_is_searched_for_a_variant_is_a_variant_of_the_model() -> None:
    assert set(models.SHOWN_BY) <= set(models.variants("swap"))
    assert set(models.CAUGHT_BY) <= set(models.variants("job"))


def test_without_spin_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda command: None)
    with pytest.raises(spin.ToolMissing, match="apt-get install spin gcc"):
        spin.compiler()


@has_spin
def test_a_worker_that_counts_its_deadline_from_the_answer_lets_two_run_at_once() -> None:
    wanted = models.broken("job", "M_DEADLINE_AFTER_CLAIM")
    assert "assertion violated" in (spin.run(wanted).error or "")


@has_spin
def test_a_search_that_was_cut_off_is_not_whole() -> None:
    found = spin.run(Search("job", ("WORKERS=2", "TICKETS=1"), depth=30))
    assert (found.error, found.whole) == (None, False)
