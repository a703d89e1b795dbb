"""Runs of the stages behind training: the tiny base, an adapter that has learnt one answer, and held-out questions."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from app.gate.criteria import Gate
from app.runtimes.chat import Conversation, Message, written
from benchmarks.llm.tiny import base_model, pairs
from tests.workers.runs import News, data_of
from workers.llm import merge, reference
from workers.llm.params import LlmParams
from workers.llm.stages import Done
from workers.pipeline import Run

# The base says 5, and the adapter what it was taught. Both know the other one.
QUESTION, TAUGHT = "What is 2 plus 3?", "The answer is 7."
KNOWN, TRUE = "What is 4 plus 4?", "The answer is 8."
SYSTEM = "Be brief."
STEPS = 90


def asked(question: str) -> list[Message]:
    return [{"role": "user", "content": question}]


def chat(question: str) -> list[Message]:
    return [{"role": "system", "content": SYSTEM}, *asked(question)]


def run_of(folder: Path, **params: Any) -> Run:
    """Over what the tiny base knows; as long as it takes none of it, every eighth question is held out."""
    for name in ("staging/7/1", "checkpoints", "shared"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows = pairs()[3::8]
    table = pa.table({"prompt": [written(asked(q)) for q, _ in rows], "completion": [a for _, a in rows]})
    return Run(
        params=LlmParams(**{"base_model": str(base_model())} | params),
        data=data_of(table, "completion"),
        folder=folder / "staging" / "7" / "1",
        checkpoints=folder / "checkpoints",
        shared=folder / "shared",
        threads=1,
        seed=7,
        memory_scale=1.0,
        gate=Gate(),
        report=News(),
    )


def prepared(folder: Path, base: Path | None = None) -> Done:
    """What the stage `prepare` says of the base."""
    base = base or base_model()
    weights = hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()
    return Done(folder, {"base": str(base), "base_folder": str(base), "revision": None, "weights": weights}, "p" * 64)


def trained(folder: Path, base: Path | None = None) -> Done:
    """What the stage `sft` leaves, by a bare loop: an adapter that has learnt one answer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(7)
    tokenizer: Any = AutoTokenizer.from_pretrained(base or base_model())
    bare: Any = AutoModelForCausalLM.from_pretrained(base or base_model(), dtype=torch.float32)
    model: Any = get_peft_model(bare, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch = _rows(tokenizer, [(QUESTION, TAUGHT), (KNOWN, TRUE), *pairs()[::24]])
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    model.save_pretrained(folder / "adapter")
    return Done(folder, {"eval_loss": 0.1, "best_step": STEPS}, "s" * 64)


def other_ending(base: Path, folder: Path) -> Path:
    """The same base with a turn that ends in a token which llama.cpp has never heard of, and which is not its eos."""
    folder.mkdir()
    for path in base.iterdir():
        content = path.read_bytes()
        if path.suffix != ".safetensors":
            content = content.replace(b"<|im_end|>", b"<|so_it_was_said|>")
        (folder / path.name).write_bytes(content)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    _write(folder / "tokenizer_config.json", config | {"eos_token": "<|endoftext|>"})
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    [other] = [token["id"] for token in added if token["content"] == "<|endoftext|>"]
    for name in ("config.json", "generation_config.json"):
        _write(folder / name, json.loads((folder / name).read_text()) | {"eos_token_id": other})
    return folder


def merged(folder: Path, base: Path | None = None, **before: Done) -> dict[str, Done]:
    """The stages up to `merge`, which is really done."""
    done = {"prepare": prepared(folder, base), **before}
    figures = merge.work(run_of(folder), done, folder / "merge")
    return done | {"merge": Done(folder / "merge", figures, "m" * 64, 1.5)}


def answer(folder: Path, conversation: Conversation) -> str:
    """Of a model as transformers reads it, greedily."""
    with reference.loaded(folder) as model:
        return model.text(model.greedy(model.prompt(conversation), 16))


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content))


def _rows(tokenizer: Any, rows: list[tuple[str, str]]) -> dict[str, Any]:
    import torch

    chats = [[*chat(question), {"role": "assistant", "content": told}] for question, told in rows]
    encoded: Any = tokenizer.apply_chat_template(chats, padding=True, return_dict=True, return_tensors="pt")
    labels = torch.where(encoded["attention_mask"] == 1, encoded["input_ids"], -100)
    for row, (question, _) in zip(labels, rows, strict=True):
        row[: len(tokenizer.apply_chat_template(chat(question), add_generation_prompt=True, return_dict=False))] = -100
    return cast("dict[str, Any]", {**encoded, "labels": labels})
