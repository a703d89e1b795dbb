"""Where an incremental training starts: the active version's hyperparameters and parameters.

Of rows the encoding is taken as it is, for the parameters speak of its features: a name that it does not know stays
unknown until the next full training.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.runtimes.embedding import EncoderRule
from app.runtimes.schema import InputSchema
from workers.ml import published
from workers.ml.encoding import Encoding
from workers.ml.families import Family
from workers.ml.published import Layer
from workers.ml.search import Choice
from workers.pipeline import Base

EPOCHS = 5  # of the MLP, at most; the parameter `epochs` may say fewer


@dataclass(frozen=True)
class Start:
    """`parameters` are what the family reads out of the graph."""

    choice: Choice
    encoding: Encoding
    parameters: Any


def start_of(base: Base, schema: InputSchema, families: Mapping[str, Family]) -> Start | str:
    """What to start from, or why nothing of `base` fits what is asked for now."""
    if base.format != "onnx" or "family" not in base.details:
        return "it does not say of which family it is"
    name = base.details["family"]
    if name not in families:
        return f"it is of the family {name}, which training.families does not name"
    read = families[name].read
    if read is None:
        return f"nothing can start from one of the family {name}"
    if differing := unlike(base.schema, schema):
        return differing
    try:
        graph = published.read(base.folder / "model.onnx")
        encoding, parameters = graph.encoding(), read(graph)
    except published.Unreadable as error:
        return f"its parameters cannot be read: {error}"
    hyperparameters = {**base.details["hyperparameters"], **families[name].fixed}
    return Start(Choice(name, hyperparameters), encoding, parameters)


def starts_of(base: Base, schema: InputSchema, rule: EncoderRule) -> dict[str, tuple[Layer, float]] | str:
    """The layer and the regularisation of each head of a published version, or why they mean nothing here."""
    if base.format != "embedding":
        return f"it is of the format {base.format}"
    theirs = EncoderRule.model_validate_json((base.folder / "encoder.json").read_bytes())
    if theirs != rule:
        differing = [name for name, value in rule if getattr(theirs, name) != value]
        return f"its texts are embedded otherwise ({', '.join(differing)})"
    if differs := unlike(base.schema, schema):
        return differs
    try:
        layers = published.read(base.folder / "heads.onnx").layers()
    except published.Unreadable as error:
        return f"its heads cannot be read: {error}"
    told = base.details["heads"]
    return {head.name: (layer, told[head.name]["C"]) for head, layer in zip(base.schema.heads, layers, strict=True)}


def unlike(before: InputSchema, now: InputSchema) -> str | None:
    """Why parameters for one schema mean nothing for the other; thresholds may differ."""
    if before.columns != now.columns or before.text != now.text:
        ours, theirs = ({(c.name, c.kind) for c in each.columns} for each in (now, before))
        changed = ", ".join(sorted({name for name, _ in ours ^ theirs}))
        return f"it reads other columns ({changed})" if changed else "it reads its columns in another way"
    labels = [{head.name: head.labels for head in each.heads} for each in (before, now)]
    if labels[0] != labels[1]:
        return f"it tells other labels apart in {', '.join(_differing(*labels))}"
    return None


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]
