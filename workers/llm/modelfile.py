"""Ollama's Modelfile: that of a version, and whether one that is in use says other than what was trained.

Its grammar is Ollama's (docs/modelfile.md): INSTRUCTION arguments, in any case, texts in quotes or in three.
A TEMPLATE is written in Go's language and cannot be run here: its special tokens are compared with those of the chat
template, and nothing more is claimed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.runtimes.chat import Card
from workers.pipeline import PipelineError

INSTRUCTIONS = "FROM|PARAMETER|TEMPLATE|SYSTEM|ADAPTER|LICENSE|MESSAGE|REQUIRES"
LINE = re.compile(
    rf'^[ \t]*({INSTRUCTIONS})[ \t]+(?:((?:stop|\w+)[ \t]+)?"""(.*?)"""|(.*?))[ \t]*$',
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)
SPECIAL = re.compile(r"<[|｜]?[\w▁/.-]+[|｜]?>|\[/?[A-Z_]+\]")


@dataclass(frozen=True)
class Modelfile:
    """What one says; None and empty: nothing."""

    system: str | None
    template: str | None
    stop: tuple[str, ...]
    parameters: Mapping[str, str]


def write(card: Card, markers: list[str], template: str | None) -> str:
    """The Modelfile of a version, beside its model.gguf. `template`: its chat template as go_template.py has it."""
    lines = ["FROM ./model.gguf"]
    if template is None:
        lines.append("# TEMPLATE: the chat template has no equal in Go's language; Ollama takes what it knows it by.")
    else:
        lines.append(f"TEMPLATE {_quoted(template)}")
    if card.system_prompt is not None:
        lines.append(f"SYSTEM {_quoted(card.system_prompt)}")
    stops = [text for text in card.stop if text in markers] or list(card.stop[:1])
    lines += [f'PARAMETER stop "{text}"' for text in stops]
    lines += [f"PARAMETER temperature {card.sampling.temperature or 0.0}", f"PARAMETER num_ctx {card.context}"]
    return "\n".join(lines) + "\n"


def parse(text: str) -> Modelfile:
    """A later SYSTEM, TEMPLATE or parameter replaces an earlier one, as in Ollama; stops add up."""
    single: dict[str, str] = {}
    stops: list[str] = []
    parameters: dict[str, str] = {}
    for match in LINE.finditer(_without_comments(text)):
        instruction, name, long, short = match.groups()
        value = _bare(short) if long is None else long
        if instruction.upper() != "PARAMETER":
            single[instruction.upper()] = value
            continue
        key, value = (name, value) if name else (*short.split(None, 1), "")[:2]
        if key.strip().lower() == "stop":
            stops.append(_bare(value))
        else:
            parameters[key.strip().lower()] = _bare(value)
    return Modelfile(single.get("SYSTEM"), single.get("TEMPLATE"), tuple(stops), parameters)


def read(told: str) -> Modelfile:
    """Of the file of that path, or of the text itself where it has several lines.

    Raises PipelineError `modelfile_missing`.
    """
    if "\n" in told.strip() or told.lstrip().upper().startswith("FROM "):
        return parse(told)
    try:
        return parse(Path(told).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(
            "modelfile_missing",
            f"The Modelfile {told} cannot be read: {error}.",
            "Correct training.export.modelfile; workers must see the file. Its text can stand there as well.",
        ) from error


def check(found: Modelfile, card: Card, markers: list[str]) -> list[str]:
    """What it says beside what was trained, such as another temperature, in sentences.

    Raises PipelineError `modelfile_differs` for another SYSTEM or none, a stop that is not where an answer ends, or a
    TEMPLATE of other special tokens. `markers` are those that the chat template uses.
    """
    differs = [*_system(found, card.system_prompt), *_stops(found, card, markers), *_template(found, card, markers)]
    if differs:
        raise _differs(differs)
    own = {"temperature": str(card.sampling.temperature or 0.0), "num_ctx": str(card.context)}
    return [
        f"PARAMETER {name} is {told}; the version's own is {own[name]}"
        for name, told in found.parameters.items()
        if name in own and _number(told) != _number(own[name])
    ]


def _system(found: Modelfile, system: str | None) -> list[str]:
    told = (found.system or "").strip()
    if told == (system or "").strip():
        return []
    return [f"SYSTEM is {told!r}, and trained was {system!r}"]


def _stops(found: Modelfile, card: Card, markers: list[str]) -> list[str]:
    """None of them: Ollama takes the tokens that end an answer from the GGUF."""
    if not found.stop:
        return []
    missing = [f"PARAMETER stop lacks {text!r}" for text in card.stop[:1] if text not in found.stop]
    known = {*card.stop, *markers}
    return missing + [
        f"PARAMETER stop {text!r} ends no answer that was trained" for text in found.stop if text not in known
    ]


def _template(found: Modelfile, card: Card, markers: list[str]) -> list[str]:
    if found.template is None:
        return []
    literal = re.sub(r"\{\{.*?\}\}", " ", found.template, flags=re.DOTALL)
    foreign = [text for text in SPECIAL.findall(literal) if text not in card.chat_template and text not in markers]
    strings = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', found.template))
    # What begins a text and what ends the last answer need not stand in Go's.
    lacking = [text for text in markers if text not in literal + strings and text in card.chat_template]
    return [
        *(f"TEMPLATE has {text!r}, which the chat template has not" for text in dict.fromkeys(foreign)),
        *(f"TEMPLATE lacks {text!r} of the chat template" for text in lacking),
    ]


def _differs(differs: list[str]) -> PipelineError:
    return PipelineError(
        "modelfile_differs",
        f"The Modelfile says other than what was trained: {'; '.join(differs)}.",
        "Correct the Modelfile, or train with what it says (training.system_prompt); or take "
        "training.export.modelfile away: the version brings its own.",
    )


def _without_comments(text: str) -> str:
    """Lines that begin with # are comments, unless they stand between triple quotes."""
    parts = text.split('"""')
    outside = [
        part if place % 2 else re.sub(r"(?m)^[ \t]*#.*$", "", part) for place, part in enumerate(parts)
    ]  # fmt: skip
    return '"""'.join(outside)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _bare(value: str) -> str:
    value = value.strip()
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def _quoted(text: str) -> str:
    return f'"""{text}"""'
