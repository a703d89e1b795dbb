"""What a language model answered: each text is asked about once, ever, by one prompt, model and schema.

    shared/answers/<asked>/<random>.jsonl    {"text": sha256, "answer": {…}}, a line an answer, on the disk before the
                                             next question

So a run that was killed goes on after its last answer, and only new texts cost anything.
"""

import asyncio
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from app.data.endpoint import Endpoint, NoAnswer
from app.data.language_model import EndpointOptions
from app.errors import Invalid

REPORT_SECONDS = 1.0

Answer = dict[str, Any]
OnProgress = Callable[[int, int, str], None]  # done, of, a note


class Answers:
    """`asked` counts what this run asked."""

    def __init__(self, shared: Path, options: EndpointOptions, prompt: str, schema: Mapping[str, Any]) -> None:
        described = {**options.asked(), "prompt": prompt, "schema": schema}
        digest = hashlib.sha256(orjson.dumps(described, option=orjson.OPT_SORT_KEYS)).hexdigest()
        self.asked = 0
        self._options, self._prompt, self._schema = options, prompt, schema
        self._folder = shared / "answers" / digest
        self._folder.mkdir(parents=True, exist_ok=True)
        # Nobody else writes to it, so only its last line can be a part of one.
        self._file = self._folder / f"{uuid.uuid4().hex}.jsonl"

    def known(self, wanted: Sequence[str]) -> dict[str, Answer]:
        """Those of the texts that were answered before."""
        by_digest = {_digest(text): text for text in wanted}
        lines = (line for path in sorted(self._folder.glob("*.jsonl")) for line in _whole_lines(path))
        return {by_digest[line["text"]]: line["answer"] for line in lines if line["text"] in by_digest}

    async def ask(self, waiting: Sequence[str], known: dict[str, Answer], on_progress: OnProgress) -> dict[str, str]:
        """Adds the answers to `known`; returns the texts that stay without one, and why. Raises EndpointDown."""
        failed: dict[str, str] = {}
        queue, done, began, told = iter(waiting), 0, time.monotonic(), 0.0

        async def work(endpoint: Endpoint) -> None:
            nonlocal done, told
            for text in queue:
                try:
                    known[text] = await endpoint.ask(self._prompt, text, self._schema)
                except NoAnswer as error:
                    failed[text] = str(error)
                else:
                    self._keep(text, known[text])
                done += 1
                now = time.monotonic()
                if now - told > REPORT_SECONDS or done == len(waiting):
                    told = now
                    on_progress(done, len(waiting), _pace(done, len(waiting), now - began))

        async with Endpoint(self._options) as endpoint:
            working = [asyncio.create_task(work(endpoint)) for _ in range(self._options.concurrency)]
            try:
                await asyncio.gather(*working)
            finally:
                for task in working:
                    task.cancel()
                self.asked += endpoint.asked
        return failed

    def _keep(self, text: str, answer: Answer) -> None:
        """Returns once it is on the disk."""
        with self._file.open("ab") as file:
            file.write(orjson.dumps({"text": _digest(text), "answer": answer}) + b"\n")
            file.flush()
            os.fsync(file.fileno())


def require_few(failed: Mapping[str, str], of: int, tolerated: float) -> None:
    """Raises Invalid `labelling_failed` where more than that share of the texts stays without an answer."""
    if len(failed) > tolerated * of:
        why = next(iter(failed.values()))
        raise Invalid(
            f"{len(failed)} of {of} texts have no answer after all attempts; of one answer, {why}.",
            code="labelling_failed",
            remedy="Read what the model answers; raise its attempts, or what is tolerated. What was answered is kept.",
        )


def _pace(done: int, of: int, seconds: float) -> str:
    left = seconds / done * (of - done)
    return f"{done}/{of} texts, {done / max(seconds, 1e-9):.1f} a second, {left / 60:.0f} min left"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """A line that a kill has cut off is none."""
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield orjson.loads(line)
