"""The tiny base model as artifacts of the runtimes of language models, converted once and kept in build/."""

import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.runtimes.chat import Card, Message
from app.runtimes.schema import CHAT_SCHEMA
from app.settings import settings
from benchmarks.llm.tiny import CHATML, base_model

# Its tokenizer is its own, so that llama.cpp's converter has to be told which one to take it for.
PRE_TOKENIZER = {"GGUF_PRE_FALLBACK": "qwen2"}
CONVERTER = """
import os, sys
folder = os.environ["REFIT_LLAMA_CPP_DIR"]
sys.path[:0] = [folder, os.path.join(folder, "gguf-py")]
from conversion.base import TextModel
known = TextModel.get_vocab_base_pre
def named(self, tokenizer):
    try:
        return known(self, tokenizer)
    except NotImplementedError:
        return os.environ["GGUF_PRE_FALLBACK"]
TextModel.get_vocab_base_pre = named
import convert_hf_to_gguf
convert_hf_to_gguf.main()
"""


def asked(question: str) -> list[Message]:
    return [{"role": "user", "content": question}]


def tiny_gguf() -> Path:
    """The tiny base in q8_0. Skips the test where there is no converter."""
    base = base_model()
    made = base.with_name(f"{base.name}-q8_0.gguf")
    with base.with_name(".gguf.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            partial = made.with_suffix(".partial")
            _convert(base, partial)
            partial.rename(made)
    return made


def tiny_card(**changes: Any) -> Card:
    given: dict[str, Any] = {
        "base": "tiny",
        "weights": hashlib.sha256((base_model() / "model.safetensors").read_bytes()).hexdigest(),
        "architecture": "qwen3",
        "parameters": 172_416,
        "quantization": "q8_0",
        "context": 256,
        "chat_template": CHATML,
        "system_prompt": None,
        "stop": ("<|im_end|>",),
        "markers": ("<|im_start|>", "<|im_end|>"),
    }
    return Card(**given | changes)


def write_artifact(folder: Path, card: Card | None = None, **files: Any) -> Path:
    """An artifact of the tiny base in `folder`: its weights linked; `files` are others by their stem, as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    card = card or tiny_card()
    (folder / "model.gguf").symlink_to(tiny_gguf())
    (folder / "card.json").write_text(card.model_dump_json())
    (folder / "schema.json").write_text(CHAT_SCHEMA.model_dump_json())
    written: dict[str, Any] = {
        "smoke": {"rows": [asked("What is 2 plus 3?"), asked("What is the capital of Japan?")]},
        "runtime": {"context": card.context, "at_once": 2},
    }
    for name, content in (written | files).items():
        (folder / f"{name}.json").write_bytes(orjson.dumps(content))
    return folder


def _convert(source: Path, target: Path) -> None:
    if importlib.util.find_spec("workers.llm.converter"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("REFIT_GGUF_PRE_FALLBACK", "qwen2")
            settings.cache_clear()
            importlib.import_module("workers.llm.converter").convert(source, target, "q8_0")
        settings.cache_clear()
        return
    if "REFIT_LLAMA_CPP_DIR" not in os.environ:
        pytest.skip("REFIT_LLAMA_CPP_DIR names no llama.cpp, whose converter makes the GGUF")
    arguments = [str(source), "--outtype", "q8_0", "--outfile", str(target)]
    subprocess.run(
        [sys.executable, "-c", CONVERTER, *arguments], check=True, env=os.environ | PRE_TOKENIZER, capture_output=True
    )
