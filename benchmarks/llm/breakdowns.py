"""What goes wrong on the worker's machine at export, a full disk or a converter that fails, ends in a named error; once
it is mended the job goes on at that stage.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import disks
from benchmarks.llm import road
from benchmarks.llm.failures import Situation, standing, trigger
from benchmarks.llm.kills import lines, stages
from benchmarks.report import Report, progress
from benchmarks.service import Service, running, until
from workers.llm import converter

STORE_BYTES = 256 * 2**20
FAILS = "raise SystemExit('Model Qwen9ForCausalLM is not supported')\n"


def tell(told: Report) -> None:
    """On a service of its own, whose store is a small disk and whose converter can be exchanged."""
    with small_service() as (service, store, tools):
        if (why := disks.lacks_mounts()) is None:
            ballast = store / "ballast"
            stops_and_goes_on(service, told, "a full disk", "disk_full", lambda: disks.fill(ballast), ballast.unlink)
        else:
            told.tell(f"a full disk left out: {why}")
        script = tools / "convert_hf_to_gguf.py"
        whole = script.read_text()
        stops_and_goes_on(
            service,
            told,
            "a converter that fails",
            "conversion_failed",
            lambda: script.write_text(FAILS),
            lambda: script.write_text(whole),
        )


@contextmanager
def small_service() -> Iterator[tuple[Service, Path, Path]]:
    """The service, the folder of its store, and that of its converter."""
    with tempfile.TemporaryDirectory() as temporary, disks.small_disk(Path(temporary) / "store", STORE_BYTES):
        folder = Path(temporary)
        tools = Path(shutil.copytree(converter.place(), folder / "llama.cpp"))
        settings = {"REFIT_STORE_DIR": str(folder / "store"), "REFIT_LLAMA_CPP_DIR": str(tools)}
        with running(settings=road.SETTINGS | settings) as service:
            yield service, folder / "store", tools


def stops_and_goes_on(
    service: Service, told: Report, name: str, code: str, hurt: Callable[[], object], mend: Callable[[], object]
) -> None:
    """Hurt as soon as the export begins, resumed once it is mended."""
    job = trigger(service, Situation(name, code, {}))
    before = standing(service)
    until(lambda: "export" in stages(service, job, "started"), "the export", seconds=300, every=0.01)
    hurt()
    error = service.wait_for(job)["error"] or {"code": "completed", "message": "", "remedy": ""}
    mend()
    progress(f"{name}: {error['code']}: {error['message']} → {error['remedy']}")
    told.tell(f"{name}: slots untouched", standing(service) == before)
    resumed = service.wait_for(service.api.post(f"/training/jobs/{job}/resume")["job_id"])
    taken = len(lines(service, resumed["job_id"], "taken as job"))
    told.tell(
        f"{name}: {error['code']}, resumed behind {taken} stages and {resumed['status']}",
        (error["code"], resumed["status"]) == (code, "completed") and taken >= 3 and bool(error["remedy"]),
    )
