"""The evaluation sheet as Markdown. Nothing that somebody wrote can become markup."""

from collections.abc import Iterator

from app.records.markdown import text
from app.signoff.schemas import Item, SheetView

HOW = "Prefer A, B or neither for each prompt. Which of them is the candidate changes from prompt to prompt."
ALONE = "No version was active to compare with: there is one answer to each prompt."


def markdown(sheet: SheetView) -> str:
    is_pair = any("B" in item.answers for item in sheet.prompts)
    parts = [
        f"# {text(sheet.model)} v{sheet.version}: evaluation sheet",
        HOW if is_pair else ALONE,
        f"Evaluation `{sheet.evaluation}`, data version `{sheet.data_version[:12]}`.",
        *(f"Not measured: {text(note)}" for note in sheet.notes),
    ]
    for place, item in enumerate(sheet.prompts, 1):
        parts += _item(place, item)
    return "\n\n".join(parts) + "\n"


def _item(place: int, item: Item) -> Iterator[str]:
    risk = "" if item.risk is None else f", risk {text(item.risk)}"
    yield f"## {place}. Prompt {item.prompt}{risk}"
    for message in item.messages:
        yield f"**{text(message['role'])}**"
        yield quoted(message["content"])
    for side, answer in item.answers.items():
        yield f"### {side}"
        yield quoted(answer)
    yield f"Reference: {text(item.reference)}"


def quoted(answer: str) -> str:
    """Line by line, as it was written."""
    return "\n".join(f"> {text(line)}  " if line.strip() else ">" for line in answer.splitlines() or [""])
