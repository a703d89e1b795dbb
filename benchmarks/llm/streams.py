"""Reloads of a language model under a constant stream of chats: none fails, none is mixed; what it weighs."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from statistics import median

import httpx

from benchmarks.llm.road import MODEL
from benchmarks.report import Report, p99
from benchmarks.service import Service

CALLERS = 4
PROMPTS = ("What is 2 plus 3?", "What is the capital of Japan?", "What is the capital of Atlantis?")


@dataclass(frozen=True)
class Heard:
    """One streamed answer: which versions its pieces named, and whether it came whole."""

    fingerprints: frozenset[str]
    text: str
    prompt: str
    whole: bool
    seconds: float


async def reload_under_streams(service: Service, told: Report, changes: int) -> None:
    """Swaps to and fro, by rollback and reload in turns, while callers stream without pause."""
    heard: list[Heard] = []
    over = asyncio.Event()
    limits = httpx.Limits(max_connections=CALLERS + 2)
    headers = {"Authorization": f"Bearer {service.key}"}
    async with httpx.AsyncClient(
        base_url=service.url, headers=headers, timeout=60, limits=limits, trust_env=False
    ) as http:
        callers = [asyncio.create_task(keep_asking(http, heard, over, place)) for place in range(CALLERS)]
        took = [await change(http, turn) for turn in range(changes)]
        over.set()
        await asyncio.gather(*callers)
    by_version = Counter(next(iter(h.fingerprints)) for h in heard if len(h.fingerprints) == 1)
    failed = [h for h in heard if not h.whole]
    answers: dict[tuple[str, str], set[str]] = {}
    for h in heard:
        for fingerprint in h.fingerprints:
            answers.setdefault((fingerprint.split("-")[0], h.prompt), set()).add(h.text)
    mixed = [h for h in heard if len(h.fingerprints) != 1] + [texts for texts in answers.values() if len(texts) > 1]
    told.tell(
        f"{changes} changes of version under {CALLERS} streams: {len(heard)} answers by {len(by_version)} generations, "
        f"{len(failed)} failed, {len(mixed)} mixed",
        not failed and not mixed and len(by_version) > changes / 2,
    )
    told.tell(f"a change took {median(took) * 1_000:.0f} ms at the median, {p99(took) * 1_000:.0f} ms at p99")


async def keep_asking(http: httpx.AsyncClient, heard: list[Heard], over: asyncio.Event, place: int) -> None:
    turn = place
    while not over.is_set():
        heard.append(await stream(http, PROMPTS[turn % len(PROMPTS)]))
        turn += 1


async def stream(http: httpx.AsyncClient, prompt: str) -> Heard:
    body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "stream": True, "max_tokens": 24}
    fingerprints, text, whole, began = set(), "", False, time.monotonic()
    try:
        async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    whole = answer.status_code == 200
                elif line.startswith("data: "):
                    piece = httpx.Response(200, content=line[6:]).json()
                    fingerprints.add(piece["system_fingerprint"])
                    text += "".join(choice["delta"].get("content") or "" for choice in piece["choices"])
    except httpx.HTTPError as error:
        text = f"{type(error).__name__}: {error}"
    return Heard(frozenset(fingerprints), text, prompt, whole, time.monotonic() - began)


async def change(http: httpx.AsyncClient, turn: int) -> float:
    """Seconds from the call to every receipt. A rollback each time: it goes to whichever version stands by."""
    await asyncio.sleep(0.5)
    slots = (await http.get("/model/slots", params={"model": MODEL})).json()
    began = time.monotonic()
    body = {"model": MODEL, "reason": f"turn {turn}", "hold": False, "version": slots["standby"]}
    answer = await http.post("/model/rollback", json=body)
    answer.raise_for_status()
    return time.monotonic() - began


def weigh(service: Service, told: Report) -> None:
    """What the API and the servers behind both slots hold, in MiB (PSS: what is shared is shared out)."""
    slots = service.slots(MODEL)
    [api] = service.processes("app.main")
    servers = [child for child in api.children(recursive=True) if "llama_server" in " ".join(child.cmdline())]
    mine, *theirs = [f"{process.memory_full_info().pss / 2**20:.0f} MiB" for process in (api, *servers)]
    told.tell(
        f"memory with v{slots['active']} and v{slots['standby']} loaded: API {mine}, "
        f"{len(servers)} servers {', '.join(theirs)}",
        len(servers) == 2,
    )
