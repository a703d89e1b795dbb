"""The model type `llm`: conversations → a language model that is served. Runbooks 000, 001, 003 and 004.

    prepare      conversations → token rows, with those counted that are cut or cut away
    sft          an adapter, learnt from answers in the order of a curriculum
    preference   that adapter, moved towards what people, pairs or a reward prefer
    merge        adapter and base as one model, compared with what it was merged from
    generate     a look at it: finite, and it says something
    export       GGUF as it is served, compared with the merged model token by token
    evaluate     (workers/evaluation.py) candidate and incumbent answer held-out prompts, through the serving runtime
    publish      (workers/evaluation.py) the version, with its report

Each stage is a module of its name in `workers/llm/`. What it leaves stays in the job's checkpoints (`llm/stages.py`):
a killed job goes on at its stage, and a stage can be run again by itself on what an earlier job left.
"""

import importlib
from typing import Any, cast

from workers.llm.params import STAGES, LlmParams
from workers.llm.stages import Done, Stage, do
from workers.ml import memory
from workers.pipeline import Candidate, Pipeline, Run

OURS = ("prepare", "sft", "preference", "merge", "generate", "export")
TRAINING = frozenset({"sft", "preference"})


@memory.named_when_exhausted()
def train(run: Run) -> Candidate | None:
    """None where only stages before `export` were asked for.

    Raises PipelineError. Of rows and base: insufficient_data, rows_truncated, sequence_too_long, curriculum_mismatch,
    preference_data_unfit, reward_without_reference, base_unavailable, chat_template_missing, chat_template_refuses,
    adapter_mismatch. Of a training: batch_too_large, batch_indivisible, quantized_needs_gpu, too_many_processes,
    launch_failed, not_converged, judge_unreachable, out_of_memory, gpu_busy, stop_command_failed. Of what is exported:
    merge_mismatch, nothing_generated, converter_missing, conversion_failed, export_mismatch, context_too_short,
    modelfile_missing, modelfile_differs, disk_full. Of stages: stage_missing. Of a pull: pull_unnamed, pull_failed,
    pull_timeout.
    """
    from workers.llm import pull

    if run.strategy == "pull":
        return pull.fetch(run)
    from workers.llm import export, gpu, training

    training.quiet()
    done: dict[str, Done] = {}
    with gpu.borrowed(run, trains=not TRAINING.isdisjoint(road(run))):
        for name in road(run):
            done[name] = do(run, name, _stage(name), done)
    return export.candidate(run, done) if "export" in done else None


def plan(run: Run) -> dict[str, Any]:
    """What a training would do, for a dry run: parameters, steps, tokens, rows cut, memory against what is free."""
    from workers.llm import endpoints, pull

    silent = endpoints.warnings(run.params)
    if run.strategy == "pull":
        return pull.plan(run) | {"warnings": silent}
    from workers.llm import plan as planning

    told = planning.plan(run)
    judged = {"evaluate", "publish"} & set(run.params.stages)
    stages = [*road(run), *(name for name in STAGES if name in judged)]
    return told | {"stages": stages, "warnings": [*told["warnings"], *silent]}


def road(run: Run) -> list[str]:
    """The stages that the definition has switched on, in their order, up to the last one that was asked for."""
    on = [name for name in OURS if name in run.params.stages and (name != "preference" or run.preference is not None)]
    if run.stages is None or not run.stages <= set(OURS):
        return on
    last = max((on.index(name) for name in run.stages if name in on), default=len(on) - 1)
    return on[: last + 1]


def _stage(name: str) -> Stage:
    return cast("Stage", importlib.import_module(f"workers.llm.{name}"))


PIPELINE = Pipeline(
    name="llm",
    summary="Conversations to a language model: LoRA by SFT and preferences, merged, as GGUF, judged as it is served.",
    queue="cpu",
    params=LlmParams,
    stages={
        "prepare": 0.02,
        "sft": 0.45,
        "preference": 0.2,
        "merge": 0.03,
        "generate": 0.02,
        "export": 0.05,
        "evaluate": 0.22,
        "publish": 0.01,
    },
    train=train,
    plan=plan,
    costly=True,
    pulls=True,
    keeps_checkpoints=True,
)
