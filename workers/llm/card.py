"""What travels beside the weights of a version: how it is asked, and where."""

import json
from pathlib import Path
from typing import Any

import orjson

from app.runtimes.chat import Card, Message, Sampling
from app.runtimes.schema import CHAT_SCHEMA
from workers.llm import go_template, modelfile
from workers.llm import tokenizer as tokenizers
from workers.llm.params import LlmParams


def of(merged: Path, tokenizer: Any, params: LlmParams, weights: str, parameters: int) -> Card:
    """The card of the merged model in `merged`. Its context is no longer than the architecture has positions."""
    config = json.loads((merged / "config.json").read_text())
    text = config.get("text_config", config)
    return Card(
        base=params.base_model,
        weights=weights,
        architecture=config["architectures"][0],
        parameters=parameters,
        quantization=params.quantization,
        context=min(params.serve.context, text.get("max_position_embeddings") or params.serve.context),
        chat_template=tokenizer.chat_template,
        system_prompt=params.system_prompt,
        stop=tuple(tokenizers.ends(tokenizer, config.get("eos_token_id"))),
        markers=tuple(tokenizers.markers(tokenizer)),
        sampling=Sampling(temperature=params.serve.temperature, max_tokens=params.serve.max_tokens, seed=0),
    )


def write(folder: Path, card: Card, params: LlmParams, tokenizer: Any, smoke: list[list[Message]]) -> None:
    """card.json, schema.json, smoke.json, runtime.json, modelfile.json, and endpoint.json where a server answers."""
    template = go_template.derive(tokenizer)
    text = modelfile.write(card, tokenizers.markers(tokenizer), template)
    files: dict[str, Any] = {
        "card.json": card.model_dump(mode="json"),
        "schema.json": CHAT_SCHEMA.model_dump(mode="json"),
        "smoke.json": {"rows": smoke},
        "runtime.json": {"context": card.context, "at_once": params.serve.at_once},
        "modelfile.json": {"text": text, "template": template},
    }
    if params.serve.by != "llama_cpp":
        serve = params.serve
        files["endpoint.json"] = {"api": serve.by, "url": serve.url, "model": serve.model, "key": serve.key}
    for name, content in files.items():
        (folder / name).write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
