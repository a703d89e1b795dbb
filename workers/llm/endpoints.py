"""Whether the endpoints answer that a definition names: asked in a dry run, hours before they are needed."""

import os
from collections.abc import Iterator

import httpx

from workers.llm.params import LlmParams

SECONDS = 2.0
UNKNOWN_KEY = (401, 403)


def warnings(params: LlmParams) -> list[str]:
    """One of each that does not answer GET {url}/models, by its field."""
    return [f"{field}: {url} {why}" for field, url, key in _named(params) if (why := _silent(url, key))]


def _named(params: LlmParams) -> Iterator[tuple[str, str, str | None]]:
    """Field, URL and key of each that the stages come to."""
    serve, chosen = params.serve, params.preference
    if serve.by == "openai" and serve.url:
        yield "training.serve", serve.url, serve.key
    for name, judge in params.evaluate.judges.items() if "evaluate" in params.stages else ():
        yield f"training.evaluate.judges.{name}", judge.url, judge.key
    rewards = chosen.method in ("grpo", "rloo") and chosen.reward.function == "judge" and "preference" in params.stages
    if rewards and chosen.reward.url:
        yield "training.preference.reward", chosen.reward.url, chosen.reward.key


def _silent(url: str, key: str | None) -> str | None:
    """Why it may not answer when it is asked. A server that knows no such path is there all the same."""
    token = os.environ.get(key.removeprefix("env:")) if key else None
    if key and not token:
        return f"needs a key, and {key} is not set on this worker"
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        status = httpx.get(f"{url.rstrip('/')}/models", headers=headers, timeout=SECONDS).status_code
    except httpx.HTTPError as error:
        return f"does not answer within {SECONDS:g} seconds ({type(error).__name__})"
    return f"answers HTTP {status}" if status >= 500 or status in UNKNOWN_KEY else None
