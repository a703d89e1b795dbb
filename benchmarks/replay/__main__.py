"""`python -m benchmarks.replay [--csv FILE --definition FILE]`: real drift, streamed through a real service.

Predictions come first and labels later, window by window. Three models see the same rows: one is never retrained, one
after each window, and one when Refit's own monitors say so, by its own gate, swap and watch.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import yaml
from sklearn.metrics import f1_score

from benchmarks.data import SHARED
from benchmarks.replay.picture import draw
from benchmarks.replay.policies import MARGIN, Player, players, wait_out
from benchmarks.replay.stream import Stream, data_of, read
from benchmarks.report import Report, progress, report
from benchmarks.service import running

ELEC2 = SHARED / "elec2" / "electricity-lags.csv.gz"
PICTURE = Path("build/replay.svg")
# What is promised: so near to retraining after each window, with so many of its trainings.
NEAR, SHARE = 0.02, 1 / 3


def main() -> None:
    asked = _asked()
    if not asked.csv.is_file():
        print(f"replay: skipped, there is no {asked.csv}")
        return
    definition = yaml.safe_load(asked.definition.read_text())
    stream = read(asked.csv, definition["data"]["label"], asked.first, asked.rows)
    with report("replay") as told, running() as service:
        path = service.inputs / "known.csv"
        stream.write(path, stream.first, asked.history)
        everyone = players(service, definition | {"data": data_of(path, definition["data"])})
        for player in everyone:
            player.begin()
        positive = _positive(everyone[0], definition)
        for window, start in enumerate(stream.starts):
            began = time.monotonic()
            play(everyone, stream, window, start, positive)
            stream.write(path, start + stream.rows, asked.history)
            # Refit looks first: its monitors see the labels of this window while they are new.
            for player in reversed(everyone):
                player.learn(window)
            wait_out(began, asked.seconds)
        judge(told, everyone, stream, positive)
        draw(PICTURE, {player.name: player.seen for player in everyone})


def play(everyone: list[Player], stream: Stream, window: int, start: int, positive: Any) -> None:
    """Every model answers the window's rows; then their labels come."""
    instances, truth = stream.instances(start), stream.truth(start)
    for player in everyone:
        labels, places = player.predict(instances)
        f1 = _f1(truth, labels, positive)
        player.seen.predicted += labels
        player.seen.f1.append(f1)
        if player.fresh:
            before, _ = player.predict(instances, slot="standby")
            if (worse := _f1(truth, before, positive) - f1) > MARGIN:
                player.seen.regretted.append((window, worse))
            player.fresh = False
        player.tell(places, truth)
    progress(f"window {window}: " + ", ".join(f"{player.name} {player.seen.f1[-1]:.3f}" for player in everyone))


def judge(told: Report, everyone: list[Player], stream: Stream, positive: Any) -> None:
    truth = [value for start in stream.starts for value in stream.truth(start)]
    whole = {player.name: _f1(truth, player.seen.predicted, positive) for player in everyone}
    never, always, refit = (player.seen for player in everyone)
    told.tell(f"{len(stream.starts)} windows of {stream.rows} rows")
    told.tell(f"never retrained F1 {whole['never']:.4f}")
    told.tell(f"retrained after each window F1 {whole['always']:.4f} with {len(always.trained)} trainings")
    told.tell(f"by Refit F1 {whole['refit']:.4f}", whole["refit"] >= whole["always"] - NEAR)
    told.tell(f"with {len(refit.trained)} trainings", len(refit.trained) <= SHARE * len(always.trained))
    told.tell(
        f"{len(refit.swapped)} swaps, {len(refit.refused)} candidates refused, {len(refit.rolled_back)} rolled back"
    )
    told.tell(
        f"{len(refit.regretted)} swaps that the next window shows to be worse by more than {MARGIN}",
        not refit.regretted,
    )
    told.tell(f"retrained each time {len(always.regretted)} were")
    assert not never.trained


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__)
    parser.add_argument("--csv", type=Path, default=ELEC2, help="rows in the order of time, with a label column")
    parser.add_argument("--definition", type=Path, default=Path(__file__).with_name("elec2.yaml"))
    parser.add_argument("--first", type=int, default=9_000, help="rows that are known before the first window")
    parser.add_argument("--rows", type=int, default=1_000, help="of a window")
    parser.add_argument("--history", type=int, default=10**9, help="rows that a training sees, the newest  [all]")
    parser.add_argument("--seconds", type=float, default=30.0, help="of a window, at least")
    return parser.parse_args()


def _positive(player: Player, definition: dict[str, Any]) -> Any:
    """The second of two labels, whose F1 it is; None where there are more: then it is the mean over them."""
    if "positive" in definition["data"]:
        return definition["data"]["positive"]
    version = player.service.version(player.name, 1)
    labels = [each["label"] for each in next(iter(version["gate"]["standings"].values()))]
    return labels[1] if len(labels) == 2 else None


def _f1(truth: list[Any], labels: list[Any], positive: Any) -> float:
    if positive is None:
        return float(f1_score(truth, labels, average="macro"))
    return float(f1_score([value == positive for value in truth], [value == positive for value in labels]))


if __name__ == "__main__":
    main()
