"""A published version answers the held-out prompts, through the runtime that serves it.

Answers are greedy, and written `at_once` side by side, as the version is served. They are kept in the job's checkpoints
by the artifact's digest: a killed job, and a later one that goes on with its checkpoints, asks only what is missing.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from app import runtimes
from app.evaluation.sampling import Asked
from app.registry import artifacts
from app.registry.artifacts import ArtifactCorrupt
from app.runtimes import Generator
from app.runtimes.chat import GREEDY, Conversation, Down, Unsupported
from workers.ledger import Ledger
from workers.pipeline import Run

# Before a server that is down is given up.
WAITS_SECONDS = (0.5, 2.0, 8.0)
# What is said of an answer that the version cannot give, such as to a prompt longer than its context.
REFUSED = "refused"

Told = TypeVar("Told")


class NoAnswers(Exception):
    """A version that cannot answer; the message says why, to follow its name."""


@dataclass(frozen=True)
class Answer:
    text: str
    finish_reason: str
    seconds: float


@dataclass(frozen=True)
class Answers:
    """One to each prompt. `likelihoods` of its reference: (nats, tokens), None where it was not asked for or is too
    long; or why nobody can tell."""

    answers: list[Answer]
    likelihoods: list[tuple[float, int] | None] | str


def answers_of(
    run: Run, store: Path, artifact: str, asked: Asked, who: str, report: Callable[[float], None]
) -> Answers:
    """Blocks until every prompt is answered. `report` is told the share that is done.

    Raises NoAnswers where the version cannot be loaded or its server is down.
    """
    likely = min(run.params.evaluate.perplexity_rows, len(asked))
    tokens = run.params.evaluate.max_tokens
    prompts = [_digest(name, tokens) for name in asked.names]
    references = [_digest(n, r) for n, r in zip(asked.names[:likely], asked.references[:likely], strict=True)]
    with Ledger(run.checkpoints / "answers" / f"{artifact}.jsonl") as ledger:
        missing = [place for place, key in enumerate(prompts) if key not in ledger]
        unlikely = [place for place, key in enumerate(references) if key not in ledger]
        if missing or unlikely:
            run.log(f"{who}: {len(missing)} of {len(asked)} answers are to be written, {len(unlikely)} likelihoods")
            todo = len(missing) + len(unlikely)
            with _loaded(store, artifact) as generator:
                ask = [(prompts[p], _asking(generator, asked.conversations[p], tokens)) for p in missing]
                ask += [
                    (references[p], _telling(generator, asked.conversations[p], asked.references[p])) for p in unlikely
                ]
                for done, (key, found) in enumerate(_side_by_side(ask, generator.at_once), 1):
                    ledger.write(key, found)
                    report(done / todo)
        return Answers(
            [Answer(*ledger[key]) for key in prompts], _likelihoods([ledger[key] for key in references], asked)
        )


@contextmanager
def _loaded(store: Path, artifact: str) -> Iterator[Generator]:
    """As the API loads it. What runs behind it ends with the context."""
    try:
        folder, manifest = artifacts.verify(store, artifact)
        generator = runtimes.load(manifest.format, folder)
    except (ArtifactCorrupt, Down, ValueError, RuntimeError) as error:
        raise NoAnswers(f"cannot be loaded: {str(error).rstrip('.')}") from error
    if not runtimes.is_generator(generator):
        raise NoAnswers("answers with labels, not with text")
    try:
        yield generator
    except Down as error:
        raise NoAnswers(f"does not answer: {str(error).rstrip('.')}") from error
    finally:
        generator.close()


def _asking(generator: Generator, conversation: Conversation, tokens: int) -> Callable[[], list[Any]]:
    sampling = GREEDY.model_copy(update={"max_tokens": tokens})

    def ask() -> list[Any]:
        began = time.monotonic()
        try:
            found = _patiently(lambda: generator.complete(conversation, sampling))
        except ValueError:
            return ["", REFUSED, time.monotonic() - began]
        return [found.text, found.finish_reason, time.monotonic() - began]

    return ask


def _telling(generator: Generator, conversation: Conversation, reference: str) -> Callable[[], Any]:
    """[nats, tokens]; null where they are too long together, a text where the server cannot tell at all."""

    def tell() -> Any:
        try:
            found = _patiently(lambda: generator.likelihood(conversation, reference))
        except Unsupported as error:
            return str(error)
        except ValueError:
            return None
        return [found.nats, found.tokens]

    return tell


def _patiently(ask: Callable[[], Told]) -> Told:
    """Raises Down after so many waits."""
    for wait in WAITS_SECONDS:
        try:
            return ask()
        except Down:
            time.sleep(wait)
    return ask()


def _side_by_side(ask: Sequence[tuple[str, Callable[[], Any]]], at_once: int) -> Iterator[tuple[str, Any]]:
    """What was found, by key, as it comes. After a failure nothing more is begun."""
    with ThreadPoolExecutor(at_once) as pool:
        begun: dict[Future[Any], str] = {pool.submit(one): key for key, one in ask}
        try:
            for future in as_completed(begun):
                yield begun[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _likelihoods(found: Sequence[Any], asked: Asked) -> list[tuple[float, int] | None] | str:
    if not found:
        return "no likelihood was asked for: training.evaluate.perplexity_rows is 0"
    if cannot := [each for each in found if isinstance(each, str)]:
        return cannot[0]
    return [*((each[0], each[1]) if each else None for each in found), *[None] * (len(asked) - len(found))]


def _digest(*parts: object) -> str:
    return hashlib.sha256("\x00".join(map(str, parts)).encode()).hexdigest()
