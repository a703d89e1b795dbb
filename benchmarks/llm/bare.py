"""The script that one would write by hand with TRL: `python -m benchmarks.llm.bare SPEC.json`; the peer of `overhead`.

Prints JSON: seconds from its start to the end of the first optimizer step, and seconds a step over the whole training.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

BEGAN = time.time()


def main() -> None:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    spec = json.loads(Path(sys.argv[1]).read_text())
    first: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if not first:
                first.append(time.time() - BEGAN)

    tokenizer = AutoTokenizer.from_pretrained(spec["base"])
    model: Any = AutoModelForCausalLM.from_pretrained(spec["base"], dtype="float32")
    rows = [json.loads(line) for line in Path(spec["rows"]).read_text().splitlines()]
    chats = [
        {
            "prompt": [{"role": "user", "content": row["question"]}],
            "completion": [{"role": "assistant", "content": row["answer"]}],
        }
        for row in rows
    ]
    arguments = SFTConfig(
        output_dir=spec["folder"],
        max_steps=spec["steps"],
        per_device_train_batch_size=spec["batch_size"],
        gradient_accumulation_steps=1,
        learning_rate=5e-3,
        max_length=128,
        logging_steps=10,
        save_strategy="steps",
        save_steps=100,
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
        dataloader_pin_memory=False,
        report_to="none",
        disable_tqdm=True,
        seed=7,
    )
    lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(chats),
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=[Clock()],
    )
    result = trainer.train()
    print(json.dumps({"first": first[0], "step": result.metrics["train_runtime"] / result.global_step}))


if __name__ == "__main__":
    main()
