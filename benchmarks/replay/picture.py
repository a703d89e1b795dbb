"""The replay as a picture: F1 of each window, and when Refit trained, swapped, was refused and went back."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.replay.policies import Seen
from benchmarks.report import progress

COLOURS = {"never": "#999999", "always": "#4477aa", "refit": "#cc3311"}
MARKS = {"swapped": "^", "refused": "x", "rolled_back": "v"}


def draw(path: Path, seen: Mapping[str, Seen]) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 4.5))
    for name, told in seen.items():
        axes.plot(told.f1, color=COLOURS[name], label=f"{name} ({len(told.trained)} trainings)")
    refit = seen["refit"]
    for what, mark in MARKS.items():
        windows = getattr(refit, what)
        if windows:
            named = what.replace("_", " ")
            axes.scatter(windows, [refit.f1[w] for w in windows], marker=mark, color="black", zorder=3, label=named)
    axes.set(xlabel="window", ylabel="F1 of its labels, predicted before they were known", ylim=(0, 1))
    axes.legend(loc="lower left")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, bbox_inches="tight")
    pyplot.close(figure)
    progress(f"drawn in {path}")
