"""DESIGN §2 as functions of what clients saw and what the database says: each yields what breaks it."""

from benchmarks.chaos.history import History
from benchmarks.chaos.laws import jobs, predictions, slots
from benchmarks.chaos.laws.violation import Law, Violation
from benchmarks.chaos.truth import Truth

LAWS: tuple[Law, ...] = (
    jobs.every_job_ends,
    jobs.a_key_is_one_job,
    jobs.a_job_has_one_runner,
    jobs.a_job_makes_one_version,
    jobs.cancelled_means_stopped,
    jobs.what_is_told_of_a_job_is_true,
    jobs.what_was_lost_runs_again,
    slots.slots_change_one_by_one,
    slots.every_change_is_recorded_once,
    slots.a_swap_is_done_once,
    predictions.every_batch_is_answered,
    predictions.answers_name_what_was_active,
    predictions.a_batch_has_one_version,
    predictions.generations_never_go_back,
    predictions.a_swap_is_true_everywhere,
    predictions.who_is_cut_off_says_so,
    predictions.artifacts_are_whole,
)


def broken(history: History, truth: Truth) -> list[tuple[str, Violation]]:
    """Every violation with the name of its law; what was seen while it happened comes first."""
    seen = [(breach.law, Violation(breach.what)) for breach in history.breaches]
    found = [(law.__name__.replace("_", " "), violation) for law in LAWS for violation in law(history, truth)]
    return seen + found
