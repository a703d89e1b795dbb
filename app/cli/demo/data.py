"""Real rows that ship inside scikit-learn: 569 biopsies of breast masses, 30 measurements each (Wolberg, UCI 1995)."""

import csv
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from app.cli.failures import Exit, Failure

# In the order of the file; its first line has sizes and classes, not names.
MEASURES = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave_points",
    "symmetry",
    "fractal_dimension",
)
FEATURES = tuple(kind.format(measure) for kind in ("mean_{}", "{}_error", "worst_{}") for measure in MEASURES)
HEADER = ("id", *FEATURES, "diagnosis")
DIAGNOSES = {"0": "malignant", "1": "benign"}

Biopsy = tuple[str, ...]


def biopsies() -> list[Biopsy]:
    """Rows of HEADER, as text. Raises Failure where scikit-learn is not installed."""
    with _shipped().open(newline="") as file:
        rows = csv.reader(file)
        next(rows)
        return [(f"biopsy-{n:03}", *cells[:-1], DIAGNOSES[cells[-1]]) for n, cells in enumerate(rows, start=1)]


def write(path: Path, rows: Sequence[Biopsy]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])


def instance(row: Biopsy) -> dict[str, float]:
    """A row as a caller sends it: its measurements by name."""
    return dict(zip(FEATURES, map(float, row[1:-1]), strict=True))


def _shipped() -> Path:
    """The file inside the installed package, which is found without importing it (a second that nobody needs)."""
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise Failure(
            "The demo trains on data of scikit-learn, which is not installed.",
            Exit.USAGE,
            remedy="pip install 'refit[worker,embedded]'",
        )
    return Path(package.origin).parent / "datasets" / "data" / "breast_cancer.csv"
