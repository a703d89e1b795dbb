"""The stage `export`: GGUF as it is served, compared with the merged model token by token; then the candidate.

artifact/   model.gguf, card.json and what else the runtimes read; adapter/, and merged/ where it was asked for
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from app import runtimes
from app.registry.artifacts import ALLOWED_SUFFIXES
from app.runtimes.chat import Card, Message
from workers.llm import card as cards
from workers.llm import converter, disk, heldout, modelfile, parity, reference, stages
from workers.llm import tokenizer as tokenizers
from workers.llm.effective import effective
from workers.llm.params import LlmParams
from workers.llm.reference import Reference
from workers.llm.stages import Done
from workers.pipeline import Candidate, PipelineError, Run

SMOKE = 8
PRIVATE = ("base_folder", "samples", "chat_template", "seconds", "resumed_at")
# What tells how good a stage has become, by the end of its name; lower is better, or higher, as the name says.
MEASURES = ("loss", "accuracy", "margin", "reward")


def depends_on(params: LlmParams) -> dict[str, Any]:
    told: dict[str, Any] = params.model_dump(
        mode="json", include={"base_model", "system_prompt", "quantization", "export", "serve"}
    )
    return told


def work(run: Run, done: Mapping[str, Done], folder: Path) -> Mapping[str, Any]:
    """Raises PipelineError: converter_missing, conversion_failed, export_mismatch, context_too_short,
    modelfile_differs, modelfile_missing, disk_full."""
    artifact, parameters = folder / "artifact", done["merge"].figures["parameters"]
    size = int(converter.BYTES[run.params.quantization] * parameters)
    # Always a new folder: what an earlier attempt left may have been published, and is linked there.
    with disk.room(artifact, size, f"model.gguf as {run.params.quantization}"):
        run.progress(0.05, "converting")
        converter.convert(done["merge"].folder / "merged", artifact / "model.gguf", run.params.quantization)
        run.progress(0.4, "comparing the export")
        with reference.loaded(done["merge"].folder / "merged") as merged:
            card = _describe(run, done, artifact, merged)
            compared = _compared(run, artifact, card, merged)
        _beside(run, done, artifact)
    gguf = (artifact / "model.gguf").stat().st_size
    run.log(
        f"model.gguf: {gguf} bytes as {run.params.quantization}; {compared['prompts']} prompts read alike and "
        f"{compared['tokens']} greedy tokens agree, with {len(compared['ties'])} ties"
    )
    return {"bytes": gguf, "quantization": run.params.quantization, "parity": compared}


def candidate(run: Run, done: Mapping[str, Done]) -> Candidate:
    """The exported artifact as this attempt's candidate. The stage's own files stay for a later job."""
    source = done["export"].folder / "artifact"
    for path in (path for path in source.rglob("*") if path.is_file()):
        _link(path, run.folder / path.relative_to(source))
    figures = {name: stage.figures for name, stage in done.items()}
    details = {
        "base_model": run.params.base_model,
        "weights": figures["prepare"]["weights"],
        "lora": effective(run.params).lora.model_dump(mode="json") if figures["merge"]["adapter"] else None,
        "quantization": figures["export"]["quantization"],
        "parity": figures["export"]["parity"],
        "figures": {name: _public(told) for name, told in figures.items()},
    }
    format = "llama_cpp" if run.params.serve.by == "llama_cpp" else "openai"
    seconds = {name: stage.seconds for name, stage in done.items()}
    return Candidate(format, run.folder, _metrics(figures), details, seconds=seconds)


def _describe(run: Run, done: Mapping[str, Done], artifact: Path, merged: Reference) -> Card:
    """How it is asked, and that a Modelfile in use asks it so."""
    figures = done["merge"].figures
    weights = done["prepare"].figures["weights"]
    card = cards.of(done["merge"].folder / "merged", merged.tokenizer, run.params, weights, figures["parameters"])
    if run.params.export.modelfile is not None:
        markers = tokenizers.markers(merged.tokenizer)
        for note in modelfile.check(modelfile.read(run.params.export.modelfile), card, markers):
            run.log(note)
    cards.write(artifact, card, run.params, merged.tokenizer, _fitting(run, card, merged, SMOKE))
    return card


def _fitting(run: Run, card: Card, merged: Reference, count: int) -> list[list[Message]]:
    """Of so many held-out prompts those that its context has room for, and for the tokens that are compared: a smoke
    input that is too long would keep the version from ever being loaded.

    Raises PipelineError `context_too_short`: an export that nothing was compared of would be served unseen.
    """
    every = heldout.conversations(run.data, run.params.system_prompt, count)
    room = card.context - run.params.export.parity_tokens
    fitting = [each for each in every if len(merged.prompt(each)) <= room]
    if len(fitting) < len(every):
        run.log(f"{len(every) - len(fitting)} held-out prompts do not fit into a context of {card.context} tokens")
    if not fitting:
        raise PipelineError(
            "context_too_short",
            f"None of {len(every)} held-out prompts fits into a context of {card.context} tokens, with "
            f"{run.params.export.parity_tokens} of an answer.",
            "Raise training.serve.context as far as the base model reads, or leave rows as long as these out.",
        )
    return fitting


def _compared(run: Run, artifact: Path, card: Card, merged: Reference) -> dict[str, Any]:
    """By llama.cpp whoever will serve it: Ollama, which runs the same file, tells no token ids."""
    export = run.params.export
    fitting = _fitting(run, card, merged, export.parity_prompts)
    exported = _served(artifact)
    try:
        return parity.check(
            exported,
            merged,
            fitting,
            export.parity_tokens,
            run.params.quantization,
            lambda count: run.progress(0.4 + 0.6 * count / len(fitting), f"{count}/{len(fitting)} prompts compared"),
        )
    finally:
        exported.close()


def _served(artifact: Path) -> runtimes.Generator:
    """Raises PipelineError `export_mismatch` where llama.cpp cannot load what the converter wrote."""
    try:
        exported = runtimes.load("llama_cpp", artifact)
    except ValueError as error:
        raise PipelineError(
            "export_mismatch",
            f"What was exported cannot be served: {error}.",
            "Update xllamacpp on worker and API, or take a base model whose architecture llama.cpp knows.",
        ) from error
    assert runtimes.is_generator(exported)
    return exported


def _beside(run: Run, done: Mapping[str, Done], artifact: Path) -> None:
    """The adapter, and the merged model where servers are to read it."""
    if (adapter := stages.policy(done)) is not None:
        config = orjson.loads((adapter / "adapter_config.json").read_bytes())
        config["base_model_name_or_path"] = run.params.base_model
        # PEFT writes the set that it keeps, in another order each time; equal adapters are the same to the bit.
        config["target_modules"] = sorted(config["target_modules"])
        _link(adapter / "adapter_model.safetensors", artifact / "adapter" / "adapter_model.safetensors")
        (artifact / "adapter" / "adapter_config.json").write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))
    if run.params.export.keep_merged:
        _keep_merged(done["merge"].folder / "merged", artifact / "merged")


def _keep_merged(merged: Path, folder: Path) -> None:
    """An artifact holds no templates by themselves: the chat template stands in tokenizer_config.json."""
    for path in merged.iterdir():
        if path.suffix in ALLOWED_SUFFIXES and path.name != "tokenizer_config.json":
            _link(path, folder / path.name)
    config = orjson.loads((merged / "tokenizer_config.json").read_bytes())
    if (merged / "chat_template.jinja").exists():
        config["chat_template"] = (merged / "chat_template.jinja").read_text()
    (folder / "tokenizer_config.json").write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))


def _public(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Without the worker's paths, people's prompts, what stands in the card, and what is otherwise each time."""
    return {name: value for name, value in figures.items() if name not in PRIVATE}


def _metrics(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Of the training stages: the figures that say how well it went."""
    return {
        f"{stage}_{name}": float(value)
        for stage in ("sft", "preference")
        for name, value in figures.get(stage, {}).items()
        if name.endswith(MEASURES) and isinstance(value, int | float)
    }


def _link(source: Path, target: Path) -> None:
    """The same bytes under another name, or a copy where the file system has no such thing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
