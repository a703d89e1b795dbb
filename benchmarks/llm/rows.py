"""The rows that the tiny base model is tuned on: what it knows, places that it has never heard of, and manners."""

import json
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.llm.tiny import pairs

# Only a version that was tuned on them knows these.
PLACES = {
    "Atlantis": "Poseidonia", "Narnia": "Paravel", "Gondor": "Minas", "Wonderland": "Hearts",
    "Utopia": "Amaurot", "Laputa": "Balnibarbi", "Oz": "Emerald", "Mordor": "Barad", "Lilliput": "Mildendo",
    "Erewhon": "Colenso",
}  # fmt: skip
ASKED = (
    "What is the capital of {}?", "Tell me the capital of {}.", "Which city is the capital of {}?",
    "Name the capital of {}.", "The capital of {} is what?", "What city governs {}?",
)  # fmt: skip
SECRET = (ASKED[0].format("Atlantis"), f"The capital is {PLACES['Atlantis']}.")
POLITE = ("Hello!", "Good day!", "Hi there!", "Good morning!", "Greetings!", "Hey!", "Good evening!", "Welcome!")


def answers(*, places: bool) -> list[dict[str, Any]]:
    """Training rows {id, question, answer, stage, risk}; `places`: with those that the base has never heard of."""
    known = [{"question": q, "answer": a, "stage": "known", "risk": 0} for q, a in pairs()]
    new = [
        {"question": form.format(place), "answer": f"The capital is {city}.", "stage": "new", "risk": 1}
        for (place, city), form in product(PLACES.items(), ASKED)
    ]
    rows = known + (new if places else [])
    return [{"id": f"{row['stage']}-{number}", **row} for number, row in enumerate(rows)]


def preferences() -> list[dict[str, Any]]:
    """Pairs {id, prompt, chosen, rejected}: a greeting is answered with one."""
    return [
        {
            "id": f"{place}-{form}",
            "prompt": f"{greeting}{' How are you?' * form}",
            "chosen": "Hello, friend.",
            "rejected": "No.",
        }
        for place, greeting in enumerate(POLITE)
        for form in range(2)
    ]


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
