"""A thousand equal triggers at once make one job, and an idempotency key stands for one body."""

import asyncio
import time
from collections import Counter
from typing import Any

import httpx

from benchmarks.data import separable
from benchmarks.report import Report, report, size
from benchmarks.service import Service, is_ready, running

TRIGGER = {"model_type": "classifier", "data_version": "latest"}


def main() -> None:
    with report("burst") as told, running() as service:
        data = separable(service.inputs / "rows.csv", 5_000)
        # Long enough to be open until the last trigger has come.
        service.define("fraud", data, training={"optuna_trials": 500}, prerequisites={"min_new_samples": 1})
        asyncio.run(burst(service, told, size(1_000)))
        same_key_other_body(service, told)
        for job in service.api.get("/training/jobs")["data"]:
            service.api.post(f"/training/jobs/{job['job_id']}/cancel")
            service.wait_for(job["job_id"])


async def burst(service: Service, told: Report, count: int) -> None:
    headers = {"Authorization": f"Bearer {service.key}"}
    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(base_url=service.url, headers=headers, limits=limits, timeout=120) as client:
        began = time.monotonic()
        calls = [client.post("/training/trigger", json=TRIGGER) for _ in range(count)]
        answering = asyncio.gather(*calls, return_exceptions=True)
        was_ready = await readiness(service, answering)
        answers, took = await answering, time.monotonic() - began
    outcomes = Counter(_outcome(answer) for answer in answers)
    expected = {"accepted": 1, "coalesced": count - 1}
    told.tell(f"{count:,} equal triggers at once answered in {took:.1f} s")
    told.tell(" and ".join(f"{n:,} {outcome}" for outcome, n in sorted(outcomes.items())), outcomes == expected)
    told.tell(f"ready {sum(was_ready)} of {len(was_ready)} times meanwhile", all(was_ready))
    jobs = service.api.pages("/training/jobs", count)
    told.tell(f"{len(jobs)} row in jobs", len(jobs) == 1)


async def readiness(service: Service, answering: asyncio.Future[Any]) -> list[bool]:
    """What the API said of itself while the burst lasted: a load balancer would take it out where it is not ready."""
    said = []
    while not answering.done():
        said.append(await asyncio.to_thread(is_ready, service.url))
        await asyncio.sleep(0.2)
    return said


def same_key_other_body(service: Service, told: Report) -> None:
    def post(note: str) -> httpx.Response:
        return service.api.http.post(
            "/training/trigger", json=TRIGGER | {"note": note}, headers={"Idempotency-Key": "one"}
        )

    first, again, other = post("the body"), post("the body"), post("another body")
    told.tell(
        f"same key and body: {again.status_code} {again.json().get('outcome')}",
        again.json().get("outcome") == "replayed" and again.json()["job_id"] == first.json()["job_id"],
    )
    code = other.json().get("code")
    told.tell(
        f"same key, other body: {other.status_code} {code}",
        (other.status_code, code) == (422, "idempotency_key_reused"),
    )


def _outcome(answer: httpx.Response | BaseException) -> str:
    if isinstance(answer, BaseException):
        return type(answer).__name__
    return str(answer.json().get("outcome") or answer.json().get("code") or answer.status_code)


if __name__ == "__main__":
    main()
