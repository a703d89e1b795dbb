"""`strategy: pull`: a version that somebody else has trained, fetched by Ollama (runbook 003, ten minutes at most).

The candidate is of format `openai`. Its files hold nothing but what was pulled, so that a model that has not changed
makes the artifact that stands in a slot already, byte for byte.
"""

import asyncio
from pathlib import Path
from typing import Any

import orjson

from app.runtimes import _ollama
from app.runtimes import _openai_client as client
from app.runtimes._ollama import Ollama
from app.runtimes._tags import Endpoint
from app.runtimes.chat import Card, Down, Sampling
from app.runtimes.schema import CHAT_SCHEMA
from workers.llm.params import Serve
from workers.pipeline import Candidate, PipelineError, Run

# Of its own, and not the data's: another data version makes no other artifact of the same model.
SMOKE = ("Hello.", "What can you do?")
PULLS = "Set training.serve: {by: ollama, model: llama3.2}, with the name that `ollama pull` takes."


def fetch(run: Run) -> Candidate:
    """Pulls the model, and pins the digest that it has now.

    Raises PipelineError: `pull_unnamed` where the definition does not say what is pulled from where, `pull_failed`
    with Ollama's own words, `pull_timeout` after serve.pull_minutes.
    """
    serve, endpoint = _named(run)
    with run.stage("export"):
        _pull(run, endpoint, serve.pull_minutes)
        try:
            card, digest = _described(endpoint, serve)
        except (Down, ValueError) as error:
            raise _failed(endpoint, error) from error
        folder = run.folder / "artifact"
        folder.mkdir(parents=True)
        _write(folder, run, card, endpoint.model_copy(update={"digest": digest}))
    run.log(f"pulled {endpoint.model} {digest[:12]}: {card.architecture}, {card.parameters} parameters")
    told = {"pulled": endpoint.model, "digest": digest, "context": card.context, "quantization": card.quantization}
    return Candidate("openai", folder, metrics={}, details=told)


def plan(run: Run) -> dict[str, Any]:
    """What would be pulled, and what Ollama has of that name now. Pulls nothing."""
    serve, endpoint = _named(run)
    try:
        with client.client() as http:
            known = _ollama.models(Ollama(http, endpoint.root, endpoint.headers))
    except (Down, ValueError) as error:
        raise _failed(endpoint, error) from error
    has = known.get(str(endpoint.model), {})
    return {
        "pulls": endpoint.model,
        "url": endpoint.root,
        "digest_now": has.get("digest"),
        "minutes_at_most": serve.pull_minutes,
        "stages": ["export", "evaluate", "publish"],
    }


def _named(run: Run) -> tuple[Serve, Endpoint]:
    serve: Serve = run.params.serve
    if serve.by != "ollama" or serve.model is None:
        raise PipelineError("pull_unnamed", "Strategy pull needs an Ollama and the name of a model there.", PULLS)
    return serve, Endpoint(api="ollama", url=serve.url, model=_ollama.full_name(serve.model), key=serve.key)


def _pull(run: Run, endpoint: Endpoint, minutes: float) -> None:
    def hear(news: dict[str, Any]) -> None:
        share = news.get("completed", 0) / news["total"] if news.get("total") else 0.0
        run.progress(share, news["status"])

    async def within_its_time() -> None:
        async with asyncio.timeout(minutes * 60):
            await _ollama.pull(endpoint.root, dict(endpoint.headers), str(endpoint.model), hear)

    try:
        asyncio.run(within_its_time())
    except TimeoutError as error:
        raise PipelineError(
            "pull_timeout",
            f"Ollama has not pulled {endpoint.model} within {minutes:g} minutes.",
            "Trigger again: Ollama goes on where it was; or raise training.serve.pull_minutes.",
        ) from error
    except (Down, ValueError) as error:
        raise _failed(endpoint, error) from error


def _failed(endpoint: Endpoint, error: Exception) -> PipelineError:
    return PipelineError(
        "pull_failed",
        f"Ollama at {endpoint.root} did not pull {endpoint.model}: {error}",
        "See that Ollama runs there (REFIT_OLLAMA_URL), reaches its registry and has disk space, and knows that name.",
    )


def _described(endpoint: Endpoint, serve: Serve) -> tuple[Card, str]:
    """What Ollama says of the model that it has now, and the model's digest."""
    with client.client() as http:
        ollama = Ollama(http, endpoint.root, endpoint.headers)
        digest: str = _ollama.models(ollama)[str(endpoint.model)]["digest"]
        told = _ollama.show(ollama, str(endpoint.model))
    said, info = _ollama.parameters(told.get("parameters") or ""), told["model_info"]
    architecture = str(info.get("general.architecture") or told["details"]["family"])
    longest = int(info.get(f"{architecture}.context_length") or serve.context)
    card = Card(
        base=str(endpoint.model),
        weights=digest,
        architecture=architecture,
        parameters=int(info.get("general.parameter_count") or 0),
        quantization=told["details"]["quantization_level"],
        context=int(said.get("num_ctx") or min(serve.context, longest)),
        chat_template=told.get("template") or "",
        # Ollama puts it before whoever sends none.
        system_prompt=told.get("system") or None,
        stop=tuple(said.get("stop", ())),
        sampling=Sampling(temperature=serve.temperature, max_tokens=serve.max_tokens, seed=0),
    )
    return card, digest


def _write(folder: Path, run: Run, card: Card, endpoint: Endpoint) -> None:
    files = {
        "card": card.model_dump(mode="json"),
        "endpoint": endpoint.model_dump(mode="json"),
        "schema": CHAT_SCHEMA.model_dump(mode="json"),
        "runtime": {"context": card.context, "at_once": run.params.serve.at_once},
        "smoke": {"rows": [[{"role": "user", "content": text}] for text in SMOKE]},
    }
    for name, content in files.items():
        (folder / f"{name}.json").write_bytes(orjson.dumps(content))
