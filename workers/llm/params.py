"""The training parameters of a language model, in the words of the runbooks. Everything has a default but the base."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from app.data.language_model import HttpUrl
from workers.llm.rules import ASKED, BASE, REWARDED, STAGED, needs
from workers.pipeline import Params

StageName = Literal["prepare", "sft", "preference", "merge", "generate", "export", "evaluate", "publish"]
STAGES: tuple[StageName, ...] = (
    "prepare", "sft", "preference", "merge", "generate", "export", "evaluate", "publish",
)  # fmt: skip
Tracker = Literal["tensorboard", "wandb", "mlflow"]
ModelId = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Command = Annotated[list[Annotated[str, StringConstraints(min_length=1)]], Field(min_length=1)]


class Lora(Params):
    """Low-rank adapters (Hu et al. 2021). Runbook 001 has r 16, runbook 004 r 8."""

    r: int = Field(16, ge=1, le=1_024, description="rank: higher is more capacity")
    lora_alpha: int = Field(32, ge=1, description="scaling: the adapter counts lora_alpha / r times")
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    target_modules: list[str] | Literal["all-linear"] = Field(
        "all-linear", description="names of linear layers; never lm_head"
    )

    @model_validator(mode="after")
    def leaves_the_head_alone(self) -> "Lora":
        if isinstance(self.target_modules, list) and "lm_head" in self.target_modules:
            raise ValueError("lm_head cannot be adapted: the loss is computed without it; 'all-linear' leaves it out")
        return self


class CurriculumStage(Params):
    """Rows that come together. `values` of the curriculum's column; unset: the stage's own name."""

    name: str
    values: list[str] | None = None
    share: float | None = Field(None, gt=0, le=1, description="of target_dataset_size  [as many as there are]")


class Curriculum(Params):
    """In which order the rows are learnt from (Bengio et al. 2009): easy ones first.

    `length`: by tokens. `loss`: by the base model's own loss on the answer. `staged`: stage by stage, as a column of
    the data says; `therapeutic` is the runbook's list of stages, over the column `stage`.
    """

    model_config = ConfigDict(json_schema_extra=STAGED)

    strategy: Literal["none", "length", "loss", "staged", "therapeutic"] = "none"
    column: str = Field("stage", description="of staged and therapeutic: a column of the data")
    stages: list[CurriculumStage] | None = Field(None, min_length=1, description="of staged, in their order")
    target_dataset_size: int | None = Field(
        None, ge=1, description="rows to train on: a sample, stratified by the stages  [all]"
    )

    @model_validator(mode="after")
    def staged_has_stages(self) -> "Curriculum":
        if (self.strategy == "staged") != (self.stages is not None):
            raise ValueError("curriculum.stages goes with strategy: staged, and staged needs them")
        shares = [stage.share for stage in self.stages or []]
        given = [share for share in shares if share is not None]
        if given and (len(given) < len(shares) or abs(sum(given) - 1) > 1e-6):
            raise ValueError("give every stage a share, all of them 1 together, or none of them")
        return self


class Reward(Params):
    """What GRPO and RLOO are rewarded by: a function of Refit's by name, or a model that is served.

    `exact_match`, `token_f1`, `number_match` compare with the row's completion; `length` prefers answers near `target`
    tokens. `judge` is asked with the rubric, and answers 0 to 1.
    """

    model_config = ConfigDict(json_schema_extra=needs("function", "judge", "url", "model", "rubric"))

    function: Literal["exact_match", "token_f1", "number_match", "length", "judge"] = "token_f1"
    target: int = Field(64, ge=1, description="of length: tokens")
    url: HttpUrl | None = Field(None, description="of judge: an OpenAI-compatible endpoint, such as Refit's own /v1")
    model: ModelId | None = None
    key: str | None = Field(None, pattern=r"^env:[A-Za-z_]\w*$", description="env:NAME of the worker's environment")
    rubric: str | None = None

    @model_validator(mode="after")
    def judge_is_named(self) -> "Reward":
        if self.function == "judge" and not (self.url and self.model and self.rubric):
            raise ValueError("a judge needs url, model and rubric")
        return self


class PreferenceParams(Params):
    """DPO from pairs (Rafailov et al. 2023), KTO from accepted and rejected answers (Ethayarajh et al. 2024), GRPO
    (Shao et al. 2024) and RLOO (Ahmadian et al. 2024) from rewards. The reference is the SFT policy.
    """

    model_config = ConfigDict(json_schema_extra=REWARDED)

    method: Literal["dpo", "kto", "grpo", "rloo"] = "dpo"
    beta: float = Field(0.1, ge=0, le=10, description="how near the policy stays to its reference")
    epochs: float = Field(1, gt=0, le=100)
    batch_size: int = Field(4, ge=1)
    gradient_accumulation_steps: int = Field(2, ge=1)
    learning_rate: float = Field(5e-6, gt=0, le=1)
    num_generations: int = Field(4, ge=2, le=64, description="of grpo and rloo: answers tried to each prompt")
    max_completion_length: int = Field(128, ge=1, description="of grpo and rloo: tokens of an answer")
    reward: Reward = Field(default_factory=Reward)


class EarlyStopping(Params):
    """Ends the SFT once the validation loss has not fallen for so many evaluations; the best checkpoint counts."""

    patience: int = Field(3, ge=1)
    evaluations_per_epoch: int = Field(2, ge=1, le=100)


class Export(Params):
    modelfile: str | None = Field(
        None, description="an Ollama Modelfile that is in use; refused where it says other than what was trained"
    )
    keep_merged: bool = Field(False, description="publish the merged safetensors too, for servers that read those")
    parity_prompts: int = Field(8, ge=1, le=200, description="held-out prompts on which the export is compared")
    parity_tokens: int = Field(16, ge=1, le=256, description="greedy tokens of each that must agree")


class Judge(Params):
    """One judged score, such as empathy: a model that reads an answer and gives it 0 to 1."""

    url: HttpUrl = Field(description="an OpenAI-compatible endpoint, such as Refit's own /v1")
    model: ModelId
    key: str | None = Field(None, pattern=r"^env:[A-Za-z_]\w*$", description="env:NAME of the worker's environment")
    rubric: str = Field(min_length=1, description="what 0 and 1 mean; the judge sees prompt, reference and answer")


class Evaluate(Params):
    rows: int = Field(200, ge=1, le=100_000, description="held-out rows that are answered, always the same ones")
    max_tokens: int = Field(256, ge=1, description="of an answer")
    perplexity_rows: int = Field(0, ge=0, description="rows of them whose reference's likelihood is asked for")
    judges: dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,40}$")], Judge] = Field(
        default_factory=dict, description="by the name of the score"
    )


class Serve(Params):
    """Who answers. `llama_cpp` runs the GGUF beside each replica; `ollama` creates it there, a tag a version; `openai`
    asks whatever model an OpenAI-compatible server has by that name.
    """

    model_config = ConfigDict(json_schema_extra=needs("by", "openai", "url", "model"))

    by: Literal["llama_cpp", "ollama", "openai"] = "llama_cpp"
    url: HttpUrl | None = Field(None, description="of ollama and openai  [REFIT_OLLAMA_URL]")
    model: str | None = Field(None, description="of openai: its name there; of strategy pull: what is pulled")
    pull_minutes: float = Field(10, gt=0, le=1_440, description="of strategy pull: after that it is given up")
    key: str | None = Field(
        None, pattern=r"^env:[A-Za-z_]\w*$", description="env:NAME of API's and worker's environment"
    )
    context: int = Field(4_096, ge=128, description="tokens of prompt and answer together")
    at_once: int = Field(4, ge=1, le=64, description="answers that are written side by side")
    max_tokens: int = Field(256, ge=1, description="of an answer, where the caller says nothing")
    temperature: float = Field(0.0, ge=0, le=2)

    @model_validator(mode="after")
    def a_server_is_named(self) -> "Serve":
        if self.by == "openai" and not (self.url and self.model):
            raise ValueError("by: openai needs url and model: who answers, and what it is called there")
        return self


class Gpu(Params):
    """Before a training on a GPU, and undone after it, also when it fails."""

    unload_ollama: HttpUrl | None = Field(None, description="URL of an Ollama whose models leave the GPU meanwhile")
    stop: list[Command] = Field(
        default_factory=list, description="commands that free memory, such as stopping a service"
    )
    start: list[Command] = Field(default_factory=list, description="commands that give it back, in this order")
    needs_mib: int | None = Field(None, ge=1, description="free memory that is asked for  [the plan's estimate]")


class LlmParams(Params):
    """What a language model is tuned from, and how. `preset: cpu` lowers what only a GPU can pay, unless it is said."""

    model_config = ConfigDict(json_schema_extra=ASKED)

    base_model: str = Field("", min_length=1, description=BASE, json_schema_extra={"errorMessage": f"must be {BASE}"})
    base_revision: str | None = Field(None, description="branch, tag or commit of the hub; unset: the newest")
    system_prompt: str | None = Field(
        None, description="before every conversation that has none, in training and serving"
    )
    stages: list[StageName] = Field(
        list(STAGES),
        min_length=1,
        description="what is done; preference only where there is data for it",
        json_schema_extra={"uniqueItems": True, "errorMessage": "are named once each; leave it out for all of them"},
    )
    preset: Literal["cpu"] | None = Field(
        None, description="cpu: batch_size 1, gradient_accumulation_steps 8, max_seq_length 256, lora.r 8, fp32"
    )
    epochs: float = Field(3, gt=0, le=1_000)
    max_steps: int | None = Field(None, ge=1, description="of the optimizer, instead of epochs")
    batch_size: int = Field(4, ge=1)
    gradient_accumulation_steps: int = Field(4, ge=1)
    learning_rate: float = Field(2e-4, gt=0, le=1)
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "cosine"
    max_seq_length: int = Field(1_024, ge=16, description="tokens of a row; a longer one is cut, and counted")
    packing: bool = Field(False, description="several short rows in one sequence")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on a GPU that has it, else fp32")
    load_in: Literal["8bit", "4bit"] | None = Field(None, description="QLoRA: needs a GPU and bitsandbytes")
    save_steps: int = Field(50, ge=1, description="optimizer steps between two checkpoints")
    lora: Lora = Field(default_factory=Lora)
    curriculum: Curriculum = Field(default_factory=Curriculum)
    early_stopping: EarlyStopping | None = None
    preference: PreferenceParams = Field(default_factory=PreferenceParams)
    quantization: Literal["f32", "f16", "bf16", "q8_0"] = Field("q8_0", description="of the GGUF")
    export: Export = Field(default_factory=Export)
    evaluate: Evaluate = Field(default_factory=Evaluate)
    serve: Serve = Field(default_factory=Serve)
    report_to: list[Tracker] = Field(default_factory=list, description="trackers beside Refit's own curves")
    processes: int | None = Field(None, ge=1, description="of a training stage, by accelerate  [one a GPU]")
    gpu: Gpu = Field(default_factory=Gpu)

    @model_validator(mode="after")
    def stages_stand_once(self) -> "LlmParams":
        if len(set(self.stages)) < len(self.stages):
            raise ValueError("a stage stands there twice")
        return self
