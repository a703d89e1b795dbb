"""The corpus, the table of roles and schemathesis on a service that serves; then its truth is as it was before.

The argument is the percentage of the pairs of case and route that are asked, every case at least once, and how many
examples schemathesis makes for an operation.
"""

import csv
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from app.auth.keyring import digest_of
from app.auth.roles import Role
from benchmarks.bad_input import (
    bodies,
    chats,
    formats,
    framing,
    headers,
    keys,
    numbers,
    paths,
    roles,
    rows,
    texts,
    types,
)
from benchmarks.bad_input.case import Case, message
from benchmarks.bad_input.fuzzing import fuzz
from benchmarks.bad_input.judge import Fault, Kind, judge
from benchmarks.bad_input.routes import MIXED, NUMERIC, POSTED, ROUTES, Json, Route, undeclared
from benchmarks.bad_input.truth import truth
from benchmarks.bad_input.wire import Wire
from benchmarks.data import breast_cancer
from benchmarks.kills import QUICK
from benchmarks.report import Report, progress, report, size
from benchmarks.service import Service, running

SEED = 7
CONNECTIONS = 4
IDEMPOTENCY_KEY = "the-first-training-of"
NAMED_FAULTS = 40
LEAST_CASES = 400
NOTHING = {"min_new_samples": 0}
KINDS: tuple[Kind, ...] = ("5xx", "wrong status", "echoed", "not a problem document", "connection")

Pair = tuple[Case, Route]


def main() -> None:
    percent = size(100)
    with report("bad-input") as told, running() as service:
        document = service.api.get("/openapi.json")
        for name in (missing := undeclared(document)):
            progress(f"[!] {name}")
        asked_as = prepare(service)
        before = truth(service.folder)
        run_corpus(told, service, asked_as, corpus(document), percent)
        run_table(told, service, asked_as, missing)
        after = truth(service.folder)
        changed = sorted(name for name in before if before[name] != after[name])
        told.tell(f"{len(changed)} of {len(before)} tables changed {changed or ''}".strip(), not changed)
        fuzz(told, service, examples=percent, seed=SEED)
        healthy = service.api.get("/health")["status"] == "ok"
        told.tell("healthy at the end" if healthy else "not healthy at the end", healthy)


def corpus(document: Json) -> list[Case]:
    """Every case there is; those of `types` are made from the document that the service tells."""
    modules = (numbers, texts, bodies, rows, chats, formats, headers, framing, paths, keys)
    return [case for module in modules for case in module.cases()] + list(types.cases(document))


def prepare(service: Service) -> dict[str, str]:
    """Two models that answer and one that takes samples; the keys, by the names that templates use."""
    service.define(NUMERIC, breast_cancer(service.inputs / "tumours.csv"), training=QUICK, prerequisites=NOTHING)
    service.define(MIXED, customers(service.inputs / "customers.csv"), training=QUICK, prerequisites=NOTHING)
    service.define(POSTED, {"source": "samples", "label": "y"}, prerequisites=NOTHING)
    made = {role.value: service.api.post("/keys", {"name": role, "roles": [role]}) for role in Role}
    revoked = service.api.post("/keys", {"name": "revoked", "roles": ["admin"]})
    service.api.delete(f"/keys/{revoked['id']}")
    for model in (NUMERIC, MIXED):
        serve(service, model, made["admin"]["key"])
    return variants({name: key["key"] for name, key in made.items()} | {"revoked": revoked["key"]})


def serve(service: Service, model: str, key: str) -> None:
    """Trains the first version and makes it the active one. The trigger takes the Idempotency-Key for `key`."""
    headers = {"Idempotency-Key": f"{IDEMPOTENCY_KEY}-{model}", "Authorization": f"Bearer {key}"}
    job = service.wait_for(service.api.post("/training/trigger", {"model": model}, headers=headers)["job_id"])
    slots = service.slots(model)
    if slots["standby"] is None:
        service.api.post(f"/model/versions/{model}/{job['version']}/stage", {"force": True, "reason": "to be asked"})
    service.api.post("/model/reload", {"model": model, "force": True, "reason": "to be asked"})


def customers(path: Path) -> Json:
    """Writes made-up customers with two categories; the `data` of a definition."""
    made = random.Random(SEED)
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "age", "spend", "plan", "region", "churned"])
        for number in range(600):
            age, spend, plan = made.uniform(18, 80), made.random(), made.choice(["basic", "plus", "pro"])
            leaves = spend + (plan == "basic") * 0.4 + made.gauss(0, 0.1) > 0.7
            writer.writerow([number, f"{age:.3f}", f"{spend:.5f}", plan, made.choice(["north", "south"]), int(leaves)])
    return {"source": "file", "path": str(path), "key": "id", "label": "churned"}


def variants(keys: Mapping[str, str]) -> dict[str, str]:
    """The keys, and what can be made of them that is none."""
    whole, other = keys["admin"], keys["viewer"]
    prefix, _, secret = whole.rpartition("_")
    return dict(keys) | {
        "short": whole[:-1],
        "half": whole[: len(whole) // 2],
        "id": prefix,
        "capitals": whole.upper(),
        "shouted": f"{prefix}_{secret.upper()}",
        "bare": whole.removeprefix("refit_"),
        "mixed": f"{prefix}_{other.rpartition('_')[2]}",
        "digest": f"{prefix}_{digest_of(secret)}",
        "idempotency": f"{IDEMPOTENCY_KEY}-{NUMERIC}",
    }


def run_corpus(told: Report, service: Service, keys: Mapping[str, str], found: Sequence[Case], percent: int) -> None:
    chosen = [pair for case in found for pair in _pairs(case, percent)]
    faults = ask(service, keys, chosen)
    kinds = Counter(fault.kind for fault in faults)
    asked = len({str(route) for _, route in chosen})
    told.tell(f"{len(found)} cases × {asked} routes = {len(chosen)} requests", len(found) >= LEAST_CASES)
    for kind in KINDS:
        told.tell(f"{kinds[kind]} {kind}", not kinds[kind])


def run_table(told: Report, service: Service, keys: Mapping[str, str], missing: Sequence[str]) -> None:
    table = [(cell.case, cell.route) for cell in roles.cells()]
    faults = ask(service, keys, table)
    told.tell(f"{len(table)} cells of route × method × role, {len(faults)} wrong", not faults)
    told.tell(f"{len(missing)} routes undeclared or with another role", not missing)


def _pairs(case: Case, percent: int) -> list[Pair]:
    """The routes of a case, or so many of them, one at least; the same ones each time."""
    routes = [route for route in ROUTES if case.on(route)]
    count = max(1, round(len(routes) * percent / 100))
    return [(case, route) for route in random.Random(f"{SEED} {case.name}").sample(routes, min(count, len(routes)))]


def ask(service: Service, keys: Mapping[str, str], pairs: Sequence[Pair]) -> list[Fault]:
    """Asks over a few connections at once; a refused key alone takes a tenth of a second."""
    shares = [pairs[number::CONNECTIONS] for number in range(CONNECTIONS)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        faults = [
            fault for found in pool.map(lambda share: list(_ask(service, keys, share)), shares) for fault in found
        ]
    for fault in faults[:NAMED_FAULTS]:
        progress(f"[!] {fault.kind}: {fault.what}")
    return faults


def _ask(service: Service, keys: Mapping[str, str], pairs: Iterable[Pair]) -> Iterable[Fault]:
    at = urlsplit(service.url)
    assert at.hostname is not None
    assert at.port is not None
    with Wire(at.hostname, at.port) as wire:
        for case, route in pairs:
            asked = message(case, route, keys)
            if case.is_raw:
                wire.close()
            yield from judge(case, route, asked, wire.exchange(asked.method, asked.sent, hangs_up=case.hangs_up))


if __name__ == "__main__":
    main()
