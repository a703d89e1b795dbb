"""Little trainings for `launch`: what several processes have to do with each other, without a model."""

import os
import time
from pathlib import Path
from typing import Any

from workers.llm.spec import Spec
from workers.pipeline import PipelineError, Reporter


def fit(spec: Spec, report: Reporter) -> dict[str, Any]:
    rank = int(os.environ["RANK"])
    told: Path = spec.folder
    (told / f"rank-{rank}").write_text(str(os.getpid()))
    if spec.extra["does"] == "fail" and rank == 1:
        raise PipelineError("not_converged", "The loss is nan on rank 1.", "Lower it.")
    if spec.extra["does"] != "add":
        time.sleep(600)
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    summed = torch.tensor(rank + 1.0)
    dist.all_reduce(summed)
    report("progress", share=0.5, note=f"from rank {rank}")
    return {"sum": summed.item(), "epochs": spec.params.epochs}
