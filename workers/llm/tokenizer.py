"""The tokenizer beside merged weights, as llama.cpp's converter must find it."""

import json
import shutil
from pathlib import Path
from typing import Any

from app.runtimes.chat import Message
from workers.pipeline import PipelineError

KEPT = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
ASKED, ANSWERED = "7319", "4862"


def save(tokenizer: Any, base: Path, folder: Path) -> None:
    """`tokenizer` into `folder`, with the token that ends a turn as the one that ends an answer.

    transformers 5 leaves out two things that a SentencePiece model cannot be converted without, or not rightly:
    `tokenizer.model`, and which added tokens are special.
    """
    tokenizer.eos_token = ends(tokenizer)[0]
    tokenizer.save_pretrained(folder)
    if (base / "tokenizer.model").exists() and not (folder / "tokenizer.model").exists():
        shutil.copy2(base / "tokenizer.model", folder / "tokenizer.model")
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    if "added_tokens_decoder" not in config and (folder / "tokenizer.json").exists():
        added = json.loads((folder / "tokenizer.json").read_text()).get("added_tokens", [])
        config["added_tokens_decoder"] = {str(token["id"]): {key: token[key] for key in KEPT} for token in added}
        path.write_text(json.dumps(config, indent=2, ensure_ascii=False))


def ends(tokenizer: Any, configured: int | list[int] | None = None) -> list[str]:
    """The special tokens that end an answer: the one that the chat template ends a turn with, which is what was
    trained, then the tokenizer's own, then those that the base's configuration names.
    """
    ids = configured if isinstance(configured, list) else [configured]
    others = [tokenizer.eos_token, *(tokenizer.convert_ids_to_tokens(id) for id in ids if id is not None)]
    return list(dict.fromkeys(token for token in (_end_of_turn(tokenizer), *others) if token))


def markers(tokenizer: Any) -> list[str]:
    """The special tokens that the chat template puts around what is said."""
    ids = tokenizer(_rendered(tokenizer), add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids) | _added_special(tokenizer)
    return list(dict.fromkeys(tokenizer.convert_ids_to_tokens(id) for id in ids if id in special))


def _end_of_turn(tokenizer: Any) -> str | None:
    """None where no special token stands behind an answer."""
    behind = _rendered(tokenizer).rpartition(ANSWERED)[2].lstrip()
    known = [token for token in markers(tokenizer) if behind.startswith(token)]
    return max(known, key=len, default=None)


def _rendered(tokenizer: Any) -> str:
    """A question and its answer. Raises PipelineError `chat_template_missing`."""
    if not tokenizer.chat_template:
        raise PipelineError(
            "chat_template_missing",
            "The tokenizer of the base model has no chat template: nobody can know how a conversation reads.",
            "Take an instruction-tuned base model, or put a chat_template into its tokenizer_config.json.",
        )
    asked: list[Message] = [{"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERED}]
    text: str = tokenizer.apply_chat_template(asked, tokenize=False)
    return text


def _added_special(tokenizer: Any) -> set[int]:
    return {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
