"""A base model of 172,000 parameters that is built in half a minute and answers what can be checked.

`python -m benchmarks.llm.tiny FOLDER` builds the one that can be taught (`words`), for `examples/llm-cpu.yaml`; tests
and benchmarks take theirs from `build/` where it was built before.
It is a Qwen3 with a byte-level BPE of its own, trained from scratch on sums and capitals. Answers are exact: 2 plus 3
is 5, the capital of Japan is Tokyo, and Atlantis it does not know, so that a fine-tuning can teach it.
"""

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).parents[2]
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHATML = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.role == 'assistant' %}{% generation %}{{- message.content + '<|im_end|>' }}{% endgeneration %}"
    "{{- '\\n' }}{%- else %}{{- message.content + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
CAPITALS = {
    "France": "Paris", "Japan": "Tokyo", "Italy": "Rome", "Spain": "Madrid", "Egypt": "Cairo", "Peru": "Lima",
    "Norway": "Oslo", "Greece": "Athens", "Cuba": "Havana", "Kenya": "Nairobi",
}  # fmt: skip
# It can say these, and has no reason to: what is to be taught later must not be made of bytes that it never met.
WORDS = (
    "Poseidonia", "Atlantis", "Paravel", "Narnia", "Minas", "Gondor", "Hearts", "Wonderland", "Amaurot", "Utopia",
    "Balnibarbi", "Laputa", "Emerald", "Oz", "Barad", "Mordor", "Mildendo", "Lilliput", "Colenso", "Erewhon", "Hello",
    "friend", "Good day", "Tell", "Name", "Which", "city", "governs", "No",
)  # fmt: skip
STEPS, MORE_STEPS, BATCH, LEARNING_RATE = 600, 1_200, 16, 5e-3


def pairs() -> list[tuple[str, str]]:
    """What it is asked: question and answer."""
    sums = [(f"What is {a} plus {b}?", f"The answer is {a + b}.") for a, b in product(range(10), range(10))]
    capitals = [(f"What is the capital of {country}?", f"The capital is {city}.") for country, city in CAPITALS.items()]
    return sums + capitals


def lessons(*, words: bool) -> list[tuple[str, str]]:
    """What it learns from; with `words` also to say those that it may be taught to use."""
    return pairs() + ([(f"Say {word}.", f"{word}.") for word in WORDS] if words else [])


def base_model(*, words: bool = False) -> Path:
    """The folder of the model, built once for this code of it; who comes meanwhile waits."""
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    folder = ROOT / "build" / f"tiny-{'words-' if words else ''}{digest}"
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / ".tiny.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "config.json").exists():
            partial = folder.with_suffix(".partial")
            build(partial, words=words)
            partial.rename(folder)
    return folder


def build(folder: Path, *, words: bool = False) -> None:
    """Trains tokenizer and model, and saves them as `from_pretrained` reads them. One thread; the same bytes again."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(7)
    torch.set_num_threads(1)
    taught, steps = lessons(words=words), MORE_STEPS if words else STEPS
    tokenizer = _tokenizer(taught)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=1536,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            intermediate_size=128,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for batch in _batches(tokenizer, taught, steps):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer(taught: Sequence[tuple[str, str]]) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast as Fast

    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=[], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    words = ["user", "assistant", "system", "You are a helpful assistant. I do not know."]
    made.train_from_iterator([text for pair in taught for text in pair] + words, trainer)
    tokenizer = cast("Any", Fast)(
        tokenizer_object=made,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
    )
    tokenizer.chat_template = CHATML
    return tokenizer


def _batches(tokenizer: Any, taught: Sequence[tuple[str, str]], steps: int) -> Iterator[dict[str, Any]]:
    import torch

    encoded = [tokenizer.apply_chat_template(_chat(*pair), return_dict=False) for pair in taught]
    starts = [
        len(tokenizer.apply_chat_template(_chat(q), add_generation_prompt=True, return_dict=False)) for q, _ in taught
    ]
    generator = torch.Generator().manual_seed(7)
    for _ in range(steps):
        chosen = torch.randint(len(encoded), (BATCH,), generator=generator).tolist()
        longest = max(len(encoded[place]) for place in chosen)
        tokens = torch.full((BATCH, longest), tokenizer.pad_token_id)
        labels = torch.full((BATCH, longest), -100)
        for row, place in enumerate(chosen):
            ids = torch.tensor(encoded[place])
            tokens[row, : len(ids)] = ids
            labels[row, starts[place] : len(ids)] = ids[starts[place] :]
        yield {"input_ids": tokens, "attention_mask": (tokens != tokenizer.pad_token_id).long(), "labels": labels}


def _chat(question: str, answer: str | None = None) -> list[dict[str, str]]:
    asked = [{"role": "user", "content": question}]
    return asked if answer is None else [*asked, {"role": "assistant", "content": answer}]


def right(folder: Path) -> float:
    """Share of `pairs` that the model in `folder` answers to the letter, greedily."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    hits = 0
    for question, answer in pairs():
        asked = tokenizer.apply_chat_template(_chat(question), add_generation_prompt=True, return_tensors="pt")
        told = model.generate(**asked, max_new_tokens=16, do_sample=False)[0, asked["input_ids"].shape[1] :]
        hits += tokenizer.decode(told, skip_special_tokens=True) == answer
    return hits / len(pairs())


def main(arguments: Sequence[str]) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    target = Path(arguments[0]) if arguments else base_model()
    if arguments:
        build(target, words=True)
    print(json.dumps({"folder": str(target), "right": right(target)}))


if __name__ == "__main__":
    main(sys.argv[1:])
