"""An evaluation as Markdown: what was found, how sure it is, and the answers side by side. A pure function of its view.

Nothing that a model or a user wrote can become markup.
"""

from collections.abc import Iterator, Sequence

from app.evaluation.schemas import Answered, EvaluationView, Row
from app.gate.report import CriterionResult
from app.records.markdown import text

CRITERIA = ("criterion", "candidate", "incumbent", "delta", "{level}", "rows", "requirement", "verdict")
FIGURES = ("metric", "candidate", "{level}", "incumbent", "delta", "{level}")


def markdown(view: EvaluationView) -> str:
    """Ends with as many answers as the view has."""
    who = f" v{view.version}" if view.version else f", job {view.job_id}"
    against = f"version {view.incumbent}" if view.incumbent else "no version, for none was ever active"
    asked = f"{view.rows_answered} held-out prompts of data version `{view.data_version[:12]}` were answered"
    parts = [
        f"# {text(view.model)}{who}: evaluation",
        f"**{view.gate.verdict}**: {text(view.gate.reason)}",
        f"{asked}, against {against} (mode {view.gate.mode}).",
    ]
    if view.gate.criteria:
        parts += ["## Criteria", _table(_headers(CRITERIA, view), map(_criterion, view.gate.criteria))]
    if view.corpus:
        parts += [
            "## Figures",
            _table(_headers(FIGURES, view), (_figures(name, told) for name, told in view.corpus.items())),
        ]
    if view.judges:
        told = [[name, judge["model"], judge["rubric"]] for name, judge in view.judges.items()]
        parts += ["## Judges", _table(("score", "model", "rubric"), told)]
    if view.notes:
        parts += ["## Notes", "\n".join(f"- {text(note)}" for note in view.notes)]
    if view.rows:
        parts += [f"## Answers, worst first: {len(view.rows)} of {view.rows_answered}", *map(_row, view.rows)]
    return "\n\n".join(parts) + "\n"


def _headers(names: Sequence[str], view: EvaluationView) -> list[str]:
    """With the level of the intervals."""
    level = "interval" if view.gate.confidence is None else f"{100 * view.gate.confidence:g} %"
    return [name.format(level=level) for name in names]


def _criterion(found: CriterionResult) -> list[object]:
    interval = _span(found.interval, "+")
    figures = (_figure(found.candidate), _figure(found.incumbent), _figure(found.delta, "+"))
    return [found.name, *figures, interval, found.n, found.requirement, found.verdict.replace("_", " ")]


def _figures(name: str, told: dict[str, float | None]) -> list[object]:
    alone, between = ((told.get(f"{of}low"), told.get(f"{of}high")) for of in ("", "delta_"))
    return [
        name,
        _figure(told["candidate"]),
        _span(alone),
        _figure(told.get("incumbent")),
        _figure(told.get("delta"), "+"),
        _span(between, "+"),
    ]


def _row(row: Row) -> str:
    asked = "\n".join(f"- {message['role']}: {text(message['content'])}" for message in row.messages)
    beside = [f"{text(row.beside)}"] if row.beside else []
    answers = [f"- **reference**: {text(row.reference)}", _answer("candidate", row.candidate)]
    if row.incumbent is not None:
        answers.append(_answer("incumbent", row.incumbent))
    return "\n\n".join([f"### {row.prompt}", *beside, asked, "\n".join(answers)])


def _answer(who: str, answered: Answered) -> str:
    scores = ", ".join(f"{text(name)} {value:.3g}" for name, value in answered.scores.items() if value is not None)
    cut = "" if answered.finish_reason == "stop" else f", {text(answered.finish_reason)}"
    return f"- **{who}**{cut}: {text(answered.text)} ({scores})"


def _table(headers: Sequence[str], rows: Iterator[list[object]] | list[list[object]]) -> str:
    lines = [" | ".join(headers), " | ".join("---" for _ in headers)]
    lines += [" | ".join(text(cell) for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _figure(value: float | None, sign: str = "") -> str | None:
    return None if value is None else f"{value:{sign}.4g}"


def _span(interval: Sequence[float | None] | None, sign: str = "") -> str | None:
    if interval is None or None in interval:
        return None
    return " to ".join(str(_figure(end, sign)) for end in interval)
