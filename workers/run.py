"""The process of one attempt: `python -m workers.run JOB FENCE NEWS-DESCRIPTOR DEADLINE`, started by the supervisor.

Snapshot → the pipeline's own stages → publish → gate. It writes nothing to the job's row: what it has to say goes down
the pipe, and the supervisor writes it under the claim's fence.
"""

import asyncio
import errno
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from typing import Any

import orjson

from workers import lifeline

if __name__ == "__main__":
    # Before anything that takes time is imported: the supervisor may die meanwhile.
    lifeline.hold(float(sys.argv[4]))

from sqlalchemy.exc import OperationalError

from app.errors import RefitError
from app.settings import settings
from workers.attempt import train_and_judge
from workers.inputs import Inputs, take_inputs
from workers.pipeline import OutOfMemory, Pipeline, PipelineError, find
from workers.progress import Progress

Outcome = dict[str, Any]


def run(job_id: int, fence: int, tell: Callable[[dict[str, Any]], None]) -> Outcome:  # noqa: PLR0911 - one return a failure
    """The attempt's outcome: a candidate with its gate report, a plan, or an error with code, message and remedy.

    Raises OperationalError where Postgres is away: that says nothing of the job, so another attempt reads its inputs.
    """
    try:
        inputs, pipeline, progress = asyncio.run(_prepare(job_id, tell))
        return train_and_judge(settings().store, inputs, pipeline, progress, fence)
    except PipelineError as error:
        return _failed(error.code, error.message, error.remedy)
    except MemoryError:
        return _failed_for_memory()
    except RefitError as error:
        return _failed(error.code, error.message, error.remedy or "Mend what the message names, and trigger again.")
    except OSError as error:
        traceback.print_exc()
        if error.errno == errno.ENOSPC:
            return _failed_for_space(error)
        return _failed("io_error", str(error), "Check the disk and the network, then resume the job.")
    except OperationalError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a library throws ends as the job's error, with its trace in the log
        traceback.print_exc()
        return _failed("pipeline_error", f"{type(error).__name__}: {error}", "Read the trace: refit jobs logs ID.")


async def _prepare(job_id: int, tell: Callable[[dict[str, Any]], None]) -> tuple[Inputs, Pipeline, Progress]:
    from app import db

    # It reads its source, however long that takes, inside a transaction that locks nothing.
    engine = db.create_engine(settings(), options="")
    try:
        async with db.create_sessions(engine)() as session:
            return await take_inputs(session, settings().store, job_id, find, tell)
    finally:
        await engine.dispose()


def _failed(code: str, message: str, remedy: str) -> Outcome:
    return {"outcome": "error", "code": code, "message": message, "remedy": remedy}


def _failed_for_memory() -> Outcome:
    error = OutOfMemory("The attempt ran out of memory.")
    return _failed(error.code, error.message, error.remedy)


def _failed_for_space(error: OSError) -> Outcome:
    left = shutil.disk_usage(settings().store).free >> 20
    message = f"No space is left in {settings().store} ({left} MiB are free): {error}."
    return _failed(
        "disk_full", message, "Free space in REFIT_STORE_DIR, then resume the job: its checkpoints are kept."
    )


def main() -> None:
    job_id, fence, descriptor = (int(argument) for argument in sys.argv[1:4])
    news = os.fdopen(descriptor, "wb", buffering=0)

    def tell(message: dict[str, Any]) -> None:
        news.write(orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")

    outcome = run(job_id, fence, tell)
    tell({"kind": "outcome"} | outcome)
    # Not sys.exit: threads that a library left behind must not keep a finished attempt alive.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
