"""Who calls the service while the storm lasts: they trigger, follow, cancel, swap and predict, and record it all."""

import asyncio
import itertools
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from random import Random
from types import TracebackType

import numpy as np
import orjson

from benchmarks.chaos.history import Json, Operation, Prediction, now, wall
from benchmarks.chaos.house import House, Replica
from benchmarks.client import Answer, Connection, ConnectionLost

MODELS = ("fraud", "churn", "spam")
# More would only wait for the processor, and hide how soon a lost job runs again.
MOST_OPEN = 2
PREDICT_EVERY_SECONDS = 0.03
TRY_AGAIN_SECONDS = 0.2
# Less than a swap may take: some answers are lost although what was asked for was done.
CALL_SECONDS, PREDICT_SECONDS = 8.0, 30.0


@dataclass
class Crowd:
    """What the clients share: `batches` are all that is ever predicted, `open_jobs` those that may not have ended."""

    house: House
    batches: list[list[Json]]
    seed: int
    open_jobs: set[int] = field(default_factory=set)
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    def caller(self, name: str) -> "Caller":
        return Caller(self.house, name, Random(f"{self.seed} {name}"))


class Caller:
    """One client: a connection of its own to each replica, and a memory of everything that it asked."""

    def __init__(self, house: House, name: str, chance: Random) -> None:
        self.name = name
        self.chance = chance
        self._house = house
        self._connections: dict[str, Connection] = {}
        self._stack = AsyncExitStack()
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> "Caller":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def unique(self) -> str:
        """A word that no operation but one ever carries, by which its effect is found in the database."""
        return f"{self.name}-{next(self._numbers)}"

    async def call(
        self, kind: str, method: str, path: str, body: Json | None = None, headers: dict[str, str] | None = None
    ) -> Operation:
        """One try, at a replica drawn by lot. Never raises: what is not known is recorded as such."""
        replica = self.chance.choice(self._house.replicas)
        sent, told, status = now(), {}, None
        try:
            message = orjson.dumps(body) if body is not None else b""
            answer = await self._connection(replica).request(method, path, message, (headers or {}).items())
            status, told = answer.status, _decoded(answer)
        except ConnectionLost as lost:
            told = {"lost": str(lost)}
        asked = {"call": f"{method} {path}"} | (body or {}) | (headers or {})
        operation = Operation(kind, self.name, replica.name, sent, now(), status, asked, told)
        self._house.history.operations.append(operation)
        return operation

    async def insist(
        self, kind: str, method: str, path: str, body: Json | None = None, headers: dict[str, str] | None = None
    ) -> Operation:
        """The same again until somebody answers. Only for what may be repeated: reads, and what carries a key."""
        while True:
            operation = await self.call(kind, method, path, body, headers)
            if operation.status is not None and operation.status < 500:
                return operation
            await asyncio.sleep(TRY_AGAIN_SECONDS)

    def _connection(self, replica: Replica) -> Connection:
        if replica.name not in self._connections:
            connection = self._connections[replica.name] = connection_to(self._house, replica, CALL_SECONDS)
            self._stack.push_async_exit(connection)
        return self._connections[replica.name]


async def trigger(crowd: Crowd, name: str) -> None:
    """Trainings of all kinds, each with a key of its own, until the crowd closes."""
    async with crowd.caller(name) as caller:
        while not crowd.closing.is_set():
            if len(crowd.open_jobs) < MOST_OPEN:
                await _trigger_once(crowd, caller)
            await asyncio.sleep(caller.chance.uniform(0.1, 0.6))


async def _trigger_once(crowd: Crowd, caller: Caller) -> None:
    """Asked again with the same key where the answer was lost, and one time in three although it was not."""
    key = caller.unique()
    body = {"model": caller.chance.choice(MODELS), "note": key, "params": _params(caller.chance)}
    for _ in range(caller.chance.choice((1, 1, 2))):
        answered = await caller.insist("trigger", "POST", "/training/trigger", body, {"Idempotency-Key": key})
        if answered.status in (200, 202):
            crowd.open_jobs.add(answered.told["job_id"])


def _params(chance: Random) -> Json:
    """Quick to train, and so many combinations that two versions seldom answer alike."""
    return {
        "optuna_trials": chance.randint(1, 3),
        "cv_folds": 2,
        "families": [chance.choice(("logistic_regression", "hist_gradient_boosting"))],
        "class_weight": chance.choice(("balanced", "none")),
        "early_stopping_patience": chance.randint(3, 9),
    }


async def follow(crowd: Crowd, name: str) -> None:
    """Polls every open job to its end, until the crowd has closed and none is left."""
    async with crowd.caller(name) as caller:
        while crowd.open_jobs or not crowd.closing.is_set():
            for job in sorted(crowd.open_jobs):
                answered = await caller.call("status", "GET", f"/training/status?job_id={job}")
                if answered.status == 200 and answered.told["is_terminal"]:
                    crowd.open_jobs.discard(job)
            await asyncio.sleep(TRY_AGAIN_SECONDS)


async def cancel(crowd: Crowd, name: str) -> None:
    """Every few seconds one of the open jobs."""
    async with crowd.caller(name) as caller:
        while not crowd.closing.is_set():
            await asyncio.sleep(caller.chance.uniform(8, 20))
            if jobs := sorted(crowd.open_jobs):
                await caller.insist("cancel", "POST", f"/training/jobs/{caller.chance.choice(jobs)}/cancel")


async def operate(crowd: Crowd, name: str) -> None:
    """Stages, reloads and rolls back; where an answer is lost, reads the slots and decides anew."""
    async with crowd.caller(name) as caller:
        while not crowd.closing.is_set():
            await swap(caller, caller.chance.choice(MODELS))
            await asyncio.sleep(caller.chance.uniform(0.05, 0.5))


async def swap(caller: Caller, model: str) -> Operation:
    """One change of a model's slots: whichever is due, from what the slots say now."""
    slots = (await caller.insist("slots", "GET", f"/model/slots?model={model}")).told
    reason = caller.unique()
    if slots["hold_reason"]:
        return await caller.call("unhold", "POST", "/model/unhold", {"model": model, "reason": reason})
    if slots["standby"] is not None and slots["standby"] != slots["previous"]:
        body = {"model": model, "reason": reason, "expected_active": slots["active"]}
        return await caller.call("reload", "POST", "/model/reload", body)
    if slots["previous"] is not None and caller.chance.random() < 0.8:
        body = {"model": model, "reason": reason, "hold": caller.chance.random() < 0.3}
        return await caller.call("rollback", "POST", "/model/rollback", body)
    return await _stage(caller, model, slots["active"], reason)


async def _stage(caller: Caller, model: str, active: int | None, reason: str) -> Operation:
    """By hand, a version that was judged against what is active."""
    listed = await caller.insist("versions", "GET", f"/model/versions?model={model}&limit=100")
    fitting = [v["number"] for v in listed.told["data"] if v["verdict"] == "pass" and v["incumbent"] == active]
    if not fitting:
        return listed
    path = f"/model/versions/{model}/{caller.chance.choice(fitting)}/stage"
    return await caller.call("stage", "POST", path, {"reason": reason})


async def predict(crowd: Crowd, replica: Replica, name: str) -> None:
    """For ever, one batch after the other, at this replica alone."""
    chance = Random(f"{crowd.seed} {name}")
    connection = connection_to(crowd.house, replica)
    bodies = {
        (model, number): orjson.dumps({"model": model, "instances": batch})
        for model in MODELS
        for number, batch in enumerate(crowd.batches)
    }
    async with AsyncExitStack() as stack:
        stack.push_async_exit(connection)  # not entered: the replica may be away just then
        while True:
            (model, number), body = chance.choice(list(bodies.items()))
            crowd.house.history.predictions.append(await _predict(connection, replica.name, model, number, body))
            await asyncio.sleep(PREDICT_EVERY_SECONDS)


async def _predict(connection: Connection, replica: str, model: str, batch: int, body: bytes) -> Prediction:
    sent = now()
    try:
        answer = await connection.request("POST", "/predict/batch", body)
    except ConnectionLost as lost:
        return Prediction(replica, model, batch, sent, now(), None, code=str(lost))
    sent, done, told = wall(answer.sent), wall(answer.done), _decoded(answer)
    if answer.status != 200:
        return Prediction(replica, model, batch, sent, done, answer.status, code=str(told.get("code")))
    return Prediction(
        *(replica, model, batch, sent, done, answer.status),
        version=told["version"],
        generation=told["generation"],
        stale=answer.headers.get("x-model-stale") == "true",
        scores=np.array(told["scores"], np.float64).tobytes(),
    )


def connection_to(house: House, replica: Replica, timeout: float = PREDICT_SECONDS) -> Connection:
    headers = {"Authorization": f"Bearer {house.key}", "Content-Type": "application/json"}
    return Connection(replica.url, headers.items(), timeout)


def _decoded(answer: Answer) -> Json:
    try:
        told = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {"body": answer.body[:200].decode(errors="replace")}
    return told if isinstance(told, dict) else {"body": told}
