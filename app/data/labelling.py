"""Labels from a language model. They form a data version, which says who gave them, how far they agree with those
before, and where they do not.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from app.data import texts
from app.data.answers import Answers, OnProgress, require_few
from app.data.language_model import LabelOptions
from app.data.sources import SourceOptions
from app.errors import Invalid
from app.runtimes.schema import Label, named

MOST_DISAGREEMENTS, MOST_FAILURES, SHOWN = 200, 20, 300


async def relabel(
    table: pa.Table, data: SourceOptions, options: LabelOptions, shared: Path, on_progress: OnProgress
) -> tuple[pa.Table, dict[str, Any]]:
    """The table with the model's labels in its label columns, and the report. Rows without a text keep theirs.

    A text that the model never answers about keeps its label, too. Raises Invalid `labelling_failed` where those are
    more than `tolerated`, EndpointDown where the model cannot be reached.
    """
    assert data.text is not None
    columns = options.columns or list(data.label_columns)
    for name in columns:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows))
    allowed = {name: _allowed(table, data, name) for name in columns}
    said = texts.of(table, data.text)
    before = {name: table[name].to_pylist() for name in columns}
    chosen = [row for row, text in enumerate(said) if text and _is_asked(options, before, row)]
    answers = Answers(shared, options, options.prompt, _schema(allowed))
    wanted = list(dict.fromkeys(said[row] for row in chosen))
    known = answers.known(wanted)
    failed = await answers.ask([text for text in wanted if text not in known], known, on_progress)
    require_few(failed, len(wanted), options.tolerated)
    after = {name: list(values) for name, values in before.items()}
    for row in chosen:
        for name, label in known.get(said[row], {}).items():
            after[name][row] = label
    for name in columns:
        table = table.set_column(table.column_names.index(name), name, pa.array(after[name]))
    report = {
        **options.asked(),
        "url": options.url,
        "prompt": options.prompt,
        "prompt_sha256": hashlib.sha256(options.prompt.encode()).hexdigest(),
        "rows": len(chosen),
        "texts": len(wanted),
        "asked": answers.asked,
        "failed": len(failed),
        "failures": [{"text": text[:SHOWN], "reason": why} for text, why in list(failed.items())[:MOST_FAILURES]],
        "agreement": {name: agreement(said, before[name], after[name], chosen) for name in columns},
    }
    return table, report


def agreement(
    said: Sequence[str], before: Sequence[Label | None], after: Sequence[Label | None], rows: Sequence[int]
) -> dict[str, Any]:
    """How far two labellings of the rows agree, of those that had a label before.

    `kappa` is Cohen's (1960): (p - e) / (1 - e), with p the share of equal labels and e that which two labellers of
    these habits would have by chance; null where there is nothing to compare, or only one label.
    """
    compared = [row for row in rows if before[row] is not None and after[row] is not None]
    same = sum(before[row] == after[row] for row in compared)
    old, new = (Counter(side[row] for row in compared) for side in (before, after))
    both = Counter(before[row] for row in compared if before[row] == after[row])
    chance = sum(old[label] * new[label] for label in old) / max(1, len(compared)) ** 2
    kappa = (same / len(compared) - chance) / (1 - chance) if compared and chance < 1 else None
    differing = [row for row in compared if before[row] != after[row]]
    return {
        "compared": len(compared),
        "same": same,
        "kappa": kappa,
        "labels": {
            named(label): {"before": old[label], "after": new[label], "both": both[label]}
            for label in sorted(old | new, key=str)
        },
        "disagreements": [
            {"text": said[row][:SHOWN], "before": before[row], "after": after[row]}
            for row in differing[:MOST_DISAGREEMENTS]
        ],
    }


def _is_asked(options: LabelOptions, before: Mapping[str, Sequence[Label | None]], row: int) -> bool:
    return options.rows == "all" or any(labels[row] is None for labels in before.values())


def _allowed(table: pa.Table, data: SourceOptions, name: str) -> list[Label]:
    found = data.known_labels.get(name) or sorted(set(table[name].drop_null().to_pylist()))
    if len(found) < 2:
        raise Invalid(
            f"Which labels {name} has is not known: the rows have {len(found)}.",
            code="label_unknown",
            remedy=f"Name them in data.labels: {{{name}: [first, second]}}.",
        )
    return found


def _schema(allowed: Mapping[str, Sequence[Label]]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"enum": list(labels)} for name, labels in allowed.items()},
        "required": list(allowed),
        "additionalProperties": False,
    }
