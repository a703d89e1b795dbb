"""The life of a house in the storm: first versions, then clients and faults together, then rest."""

import asyncio
from collections.abc import Sequence
from functools import partial
from random import Random

from benchmarks.chaos.clients import MODELS, Caller, Crowd, cancel, follow, operate, predict, swap, trigger
from benchmarks.chaos.history import Json
from benchmarks.chaos.house import House, eventually
from benchmarks.chaos.schedule import Planned
from benchmarks.chaos.watcher import watch
from benchmarks.report import progress

# A fault that has not healed after so long never will.
FAULT_SECONDS = 150.0
REST_SECONDS = 120.0

CLIENTS = {
    "trainer-1": trigger,
    "trainer-2": trigger,
    "follower": follow,
    "canceller": cancel,
    "operator-1": operate,
    "operator-2": operate,
}
DEFINITION = {
    "type": "classifier",
    "prerequisites": {"min_new_samples": 0},
    # Every training passes, and nothing protects the standby: what is tried here is the swapping.
    "gate": {"criteria": {"f1": None, "auc_roc": None, "precision": None, "recall": {"min": 0}}},
    "watch": {"minutes": 0},
}
# Two versions of each model, so that there is somewhere to go back to from the first fault on.
FIRST = tuple(
    {"optuna_trials": 1, "cv_folds": 2, "families": ["logistic_regression"], "class_weight": weight}
    for weight in ("balanced", "none")
)

OPEN = "SELECT count(*) FROM training_jobs WHERE state IN ('queued', 'running')"
SERVED = "SELECT count(*) FROM replica_slots WHERE model = %s AND served > 0 AND lease_until > clock_timestamp()"


async def live_through(crowd: Crowd, data: Json, planned: Sequence[Planned]) -> None:
    """Returns once every job has ended. `data` is that of the models' definitions.

    Raises TimeoutError where a fault does not heal, or a job does not end.
    """
    async with asyncio.TaskGroup() as life:
        watching = life.create_task(watch(crowd.house))
        await _first_versions(crowd, data)
        clients = [life.create_task(client(crowd, name)) for name, client in CLIENTS.items()]
        predicting = [life.create_task(predict(crowd, r, f"predictor-{r.name}")) for r in crowd.house.replicas]
        for number, one in enumerate(planned, start=1):
            progress(f"{number}/{len(planned)} {one.fault.name}")
            await _suffer(crowd, one)
        crowd.closing.set()
        await eventually(lambda: _at_rest(crowd.house), "every job to end", REST_SECONDS)
        await asyncio.wait_for(asyncio.gather(*clients), REST_SECONDS)
        for task in (*predicting, watching):
            task.cancel()


async def _first_versions(crowd: Crowd, data: Json) -> None:
    """Every model is served by every replica, so that from now on each prediction must be answered."""
    async with crowd.caller("founder") as caller:
        for model in MODELS:
            await caller.insist("define", "PUT", f"/models/{model}", DEFINITION | {"data": data})
        for params in FIRST:
            for model in MODELS:
                key = caller.unique()
                body = {"model": model, "note": key, "params": params}
                await caller.insist("trigger", "POST", "/training/trigger", body, {"Idempotency-Key": key})
            await eventually(lambda: _at_rest(crowd.house), "the first versions", REST_SECONDS)
            for model in MODELS:
                await eventually(partial(_serves, crowd.house, caller, model), f"{model} on every replica")


async def _serves(house: House, caller: Caller, model: str) -> bool:
    """Whether every replica serves the model, whose standby is reloaded where there is one."""
    await swap(caller, model)
    return await house.ask(SERVED, model) == [(len(house.replicas),)]


async def _suffer(crowd: Crowd, planned: Planned) -> None:
    async with asyncio.timeout(FAULT_SECONDS):
        async with planned.fault.begin(crowd, Random(planned.seed)):
            await asyncio.sleep(planned.lasts)
        await asyncio.sleep(planned.pause)


async def _at_rest(house: House) -> bool:
    return await house.ask(OPEN) == [(0,)]
