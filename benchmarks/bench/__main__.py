"""python -m benchmarks.bench [SIZE] [--out FILE]: every section on one service, as a page of Markdown and one line."""

import argparse
import signal
import sys
from pathlib import Path

from benchmarks.bench import change, machine, neighbours, pollers, polling, profile, throughput
from benchmarks.bench.alone import furnished
from benchmarks.bench.load import check_wrk
from benchmarks.bench.setting import FULL
from benchmarks.report import progress, report

SECTIONS = (throughput.measure, polling.measure, pollers.measure, change.measure)
# What tells more than it judges, and nothing in a second.
ONLY_FULL = (neighbours.measure, profile.measure)
SHORT = (
    "This is the short form: most peers, two processes, formats of the body, large neighbours and the profile are left "
    f"out, and no timing is judged. Size {FULL} has all of it."
)


def main() -> None:
    asked = _arguments()
    # As Ctrl-C: every block is left in order, and takes its processes along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with report("bench") as told:
        check_wrk()
        page = [f"Measured on {machine.described()}"]
        with furnished(asked.size) as setting:
            if not setting.is_full:
                page.append(SHORT)
            for measure in (*SECTIONS, *(ONLY_FULL if setting.is_full else ())):
                page.append(measure(setting, told))
                # After each section: whatever the next one does, what was measured is kept.
                _write(asked.out, page)
        print("\n\n".join(page), end="\n\n")
        progress(f"written to {asked.out}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    parser.add_argument(
        "size", type=int, nargs="?", default=FULL, help=f"seconds of a round; below {FULL} the short form"
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench.md"), help="where the Markdown goes")
    return parser.parse_args()


def _write(out: Path, page: list[str]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n\n".join(page) + "\n")


if __name__ == "__main__":
    main()
