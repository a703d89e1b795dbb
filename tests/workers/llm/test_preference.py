"""The policy moves towards what is preferred, from the SFT policy and against it; what does not fit is named first."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from app.data.chats import COMPLETION
from benchmarks.llm.tiny import base_model, pairs
from tests.workers.llm import talks
from tests.workers.llm.talks import asked, conversations
from tests.workers.runs import data_of, news_of
from workers.llm import preference, preferred, training
from workers.llm.params import LlmParams, PreferenceParams
from workers.llm.stages import Done
from workers.pipeline import PipelineError, Run, TrainingData

QUESTION, RIGHT, POLITE = "What is 2 plus 3?", "The answer is 5.", "It is 5, my friend."
QUICK: dict[str, Any] = {
    "learning_rate": 1e-2,
    "batch_size": 4,
    "gradient_accumulation_steps": 1,
    "max_completion_length": 8,
}
SEED = 3
LLM = LlmParams.model_validate({"base_model": "/x", "max_seq_length": 64})


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stage before has left: an adapter that is not nothing, but too small to change an answer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, set_seed

    set_seed(SEED)
    base: Any = AutoModelForCausalLM.from_pretrained(base_model(), dtype=torch.float32)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # PEFT's, see conftest.py
        model: Any = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.02)
    folder = tmp_path_factory.mktemp("sft")
    model.save_pretrained(folder / "adapter")
    return folder


def rows_of(labels: tuple[str, ...], *, validation: int = 0, **columns: list[Any]) -> TrainingData:
    """A data version of conversations to train on, but for the last ones."""
    table = pa.table(columns)
    split = ["train"] * (len(table) - validation) + ["validation"] * validation
    return data_of(table, labels=labels, features=("prompt",), split=pa.chunked_array([pa.array(split, pa.string())]))


def run_of(folder: Path, data: TrainingData, **params: Any) -> Run:
    run = talks.run_of(conversations(10), folder, **params)
    run.preference = data
    return run


def polite_pairs(rows: int = 12, validation: int = 0) -> TrainingData:
    known = pairs()[: rows + validation]
    return rows_of(
        ("chosen", "rejected"),
        validation=validation,
        prompt=[asked(question) for question, _ in known],
        chosen=[f"It is {answer.split()[-1][:-1]}, my friend." for _, answer in known],
        rejected=[answer for _, answer in known],
    )


def judged(rows: int = 12, accepted: Callable[[int], bool] = lambda place: place % 2 == 0) -> TrainingData:
    return rows_of(
        ("completion", "accepted"),
        prompt=[asked(QUESTION)] * rows,
        completion=[POLITE if accepted(place) else RIGHT for place in range(rows)],
        accepted=["true" if accepted(place) else "false" for place in range(rows)],
    )


def trained(run: Run, sft: Path | None) -> tuple[Path, dict[str, Any]]:
    folder = run.checkpoints / "preference"
    folder.mkdir(exist_ok=True)
    figures = dict(preference.work(run, talks.prepared(run) | ({"sft": Done(sft, {}, "s")} if sft else {}), folder))
    assert sorted(path.name for path in folder.glob("adapter/*/")) == []
    return folder / "adapter", figures


def log_odds(adapter: Path | None, chosen: str = POLITE, rejected: str = RIGHT, question: str = QUESTION) -> float:
    """How much likelier the adapter, or the base alone, holds `chosen` than `rejected`, in nats."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(base_model())
    base: Any = AutoModelForCausalLM.from_pretrained(base_model(), dtype=torch.float32)
    model: Any = (PeftModel.from_pretrained(base, adapter) if adapter else base).eval()
    prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    start = len(tokenizer(prompt)["input_ids"])

    def nats(answer: str) -> float:
        ids = tokenizer(prompt + answer + "<|im_end|>", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            held = torch.log_softmax(model(input_ids=ids).logits[0, start - 1 : -1], -1)
        return float(held.gather(1, ids[0, start:, None]).sum())

    return nats(chosen) - nats(rejected)


def test_dpo_moves_the_sft_policy_towards_what_is_chosen_and_measures_against_it(tmp_path: Path, sft: Path) -> None:
    run = run_of(tmp_path, polite_pairs(validation=4), preference={**QUICK, "epochs": 3})
    adapter, figures = trained(run, sft)
    assert log_odds(adapter) > log_odds(sft / "adapter") + 5
    assert (figures["rows"], figures["rows_validation"], figures["steps"]) == (12, 4, 9)
    assert figures["rewards_accuracies"] == 1.0
    assert figures["rewards_margins"] > 0.5
    assert figures["eval_rewards_accuracies"] == 1.0
    losses = [point for point in news_of(run).of("metric") if point["name"] == "loss"]
    # -log sigmoid(0): at the first step policy and reference are one, so the reference is the SFT policy.
    assert losses[0]["value"] == pytest.approx(math.log(2), abs=1e-4)
    assert losses[-1]["value"] < 0.5


def test_a_killed_training_goes_on_at_its_checkpoint_to_the_same_adapter(tmp_path: Path, sft: Path) -> None:
    def made(name: str) -> Run:
        return run_of(tmp_path / name, polite_pairs(), preference={**QUICK, "epochs": 3}, save_steps=2)

    whole, _ = trained(made("whole"), sft)
    run = made("cut")
    quiet = run.report

    def cut(kind: Any, **figures: Any) -> None:
        quiet(kind, **figures)
        if kind == "metric" and figures["step"] == 5:
            raise KeyboardInterrupt

    run.report = cut
    with pytest.raises(KeyboardInterrupt):
        trained(run, sft)
    resumed, figures = trained(made("cut"), sft)
    assert figures["resumed_at"] == 4
    name = "adapter_model.safetensors"
    assert (resumed / name).read_bytes() == (whole / name).read_bytes()


def test_kto_learns_from_accepted_and_rejected_answers_also_of_a_fresh_adapter(tmp_path: Path) -> None:
    run = run_of(tmp_path, judged(), preference={**QUICK, "method": "kto", "batch_size": 1, "epochs": 4})
    adapter, figures = trained(run, None)
    assert log_odds(adapter) > log_odds(None) + 5
    assert figures["rewards_margins"] > 0


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_a_reward_moves_the_policy_towards_what_it_pays_for(tmp_path: Path, sft: Path, method: str) -> None:
    """What it cannot know it guesses, and one guess is paid for."""
    unknown = [f"What is the capital of {country}?" for country in ("Atlantis", "Utopia")]
    data = rows_of((COMPLETION,), prompt=[asked(text) for text in unknown], completion=["The capital is Rome."] * 2)
    chosen = {**QUICK, "method": method, "batch_size": 8, "num_generations": 8, "epochs": 10, "beta": 0.01}
    adapter, figures = trained(run_of(tmp_path, data, preference=chosen), sft)
    told = ("The capital is Rome.", "The capital is Lima.", unknown[0])
    assert log_odds(adapter, *told) > log_odds(sft / "adapter", *told) + 0.5
    assert figures["steps"] == 20
    assert 0 <= figures["reward"] <= 1


def test_what_is_too_long_is_left_out_and_counted(tmp_path: Path) -> None:
    texts = polite_pairs(4).rows.to_pydict()
    texts["chosen"][0] = "word " * 200
    data = rows_of(("chosen", "rejected"), **texts)
    selection = preferred.select(run_of(tmp_path, data), LLM, training.load_tokenizer(base_model()))
    assert selection.figures == {"rows": 3, "rows_validation": 0, "rows_too_long": 1}


@pytest.mark.parametrize(
    ("data", "chosen", "code", "told", "remedy"),
    [
        (judged(), {"method": "dpo"}, "preference_data_unfit", "dpo learns from pairs", "method: kto"),
        (rows_of((), prompt=[asked("?")]), {"method": "kto"}, "preference_data_unfit", "prompts alone", "feedback"),
        (rows_of((), prompt=[asked("?")]), {"method": "grpo"}, "reward_without_reference", "token_f1", "completion"),
        (polite_pairs(), {"method": "grpo", "batch_size": 3}, "batch_indivisible", "is 6, which 4", "batch_size to 4"),
        (polite_pairs(1), {"method": "rloo"}, "insufficient_data", "2 different prompts, and there are 1", "lower"),
    ],
)
def test_data_that_does_not_fit_the_method_is_named_before_anything_is_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    data: TrainingData,
    chosen: dict[str, Any],
    code: str,
    told: str,
    remedy: str,
) -> None:
    monkeypatch.setattr(training, "load_policy", lambda _: pytest.fail("nothing may be loaded"))
    with pytest.raises(PipelineError, match=told) as caught:
        trained(run_of(tmp_path, data, preference=chosen), None)
    assert caught.value.code == code
    assert remedy in caught.value.remedy


def test_unequal_numbers_of_accepted_and_rejected_rows_weigh_alike() -> None:
    assert preference._weights(5, 10) == {}
    assert preference._weights(2, 10) == {"desirable_weight": 4}
    assert preference._weights(8, 10) == {"undesirable_weight": 3}
    assert preference._weights(0, 10) == {}


def test_half_a_batch_keeps_the_groups_of_answers_whole() -> None:
    halved = PreferenceParams(method="grpo", batch_size=2, gradient_accumulation_steps=5, num_generations=6)
    assert preference._batch(halved) == (2, 6)
