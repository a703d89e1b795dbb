"""Rows to train on: some that come with scikit-learn, some made up, some real ones beside the project."""

import csv
from pathlib import Path
from typing import Any

# The real data sets lie beside the project's root and are no part of it.
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def breast_cancer(path: Path) -> dict[str, Any]:
    """Writes scikit-learn's 569 tumours to `path`; the `data` of a definition."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    columns = ["id", *(name.replace(" ", "_") for name in found.feature_names), "diagnosis"]
    named = [found.target_names[target] for target in found.target]
    table = [[i, *map(float, row), label] for i, (row, label) in enumerate(zip(found.data, named, strict=True))]
    _write(path, columns, table)
    return {"source": "file", "path": str(path), "key": "id", "label": "diagnosis", "positive": "malignant"}


def separable(path: Path, rows: int, columns: int = 20) -> dict[str, Any]:
    """Writes made-up rows of two overlapping classes, always the same ones; the `data` of a definition."""
    from sklearn.datasets import make_classification

    numbers, classes = make_classification(rows, columns, n_informative=columns // 2, random_state=7)
    names = ["id", *(f"x{i}" for i in range(columns)), "label"]
    table = [[i, *map(float, row), int(label)] for i, (row, label) in enumerate(zip(numbers, classes, strict=True))]
    _write(path, names, table)
    return {"source": "file", "path": str(path), "key": "id", "label": "label"}


def features(data: dict[str, Any]) -> list[dict[str, float]]:
    """The rows of a file as instances of a prediction, by name."""
    with Path(data["path"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = data.get("features") or [name for name in rows[0] if name not in (data["key"], data["label"])]
    return [{name: float(row[name]) for name in names} for row in rows]


def _write(path: Path, columns: list[str], rows: list[list[Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
