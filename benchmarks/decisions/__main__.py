"""`python -m benchmarks.decisions [DRAWS]`: what Refit decides, many times with the truth known, and on a service."""

from benchmarks.decisions import counting, drift, gate, gate_speed, on_service, watches
from benchmarks.report import progress, report, size

DRAWS = 1_000
# Predictions that are counted for each draw: ten million of them in the long form.
COUNTED = 10_000


def main() -> None:
    draws = size(DRAWS)
    parts = {
        "the gate": lambda: gate.simulate(draws),
        "its speed": lambda: gate_speed.measure(5),
        "drift": lambda: drift.simulate(draws),
        "watches": lambda: watches.simulate(draws),
        "counting": lambda: counting.figures(draws * COUNTED),
        "a service": on_service.show,
    }
    # The short form judges what is right and not how fast it was.
    only_told = {"its speed", "counting"} if draws < DRAWS else set()
    with report("decisions") as told:
        for name, part in parts.items():
            progress(f"── {name}")
            for figure in part():
                told.tell(figure.sentence, figure.holds or name in only_told)


if __name__ == "__main__":
    main()
