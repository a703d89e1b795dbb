"""Which language model is asked, and for what: the part of it that stands in definitions. `endpoint.py` asks."""

from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints


def http_url(url: str) -> str:
    """Without a slash behind it. Raises ValueError for what is no http(s) URL, and for one with a password in it, which
    would stand in every record that names the endpoint.
    """
    parsed = urlsplit(url)
    if parsed.scheme not in ("http", "https") or not parsed.hostname:
        raise ValueError("not an http:// or https:// URL")
    if parsed.query or parsed.fragment or not _port_is_one(parsed):
        raise ValueError("a URL such as http://localhost:8000/v1: a port to 65535, no query and no fragment")
    if "@" in parsed.netloc:
        raise ValueError("the URL has a password in it; name the key's environment variable instead: key: env:NAME")
    return url.rstrip("/")


# With the pattern a JSON Schema says most of it too, so that the API refuses what no worker has seen.
HttpUrl = Annotated[
    str,
    StringConstraints(pattern=r"^https?://(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)(:[0-9]{1,5})?(/[^\s?#]*)?$"),
    AfterValidator(http_url),
]


class EndpointOptions(BaseModel):
    """Where the language model is, and how it is asked. The key never stands here: only where it is found."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, AfterValidator(http_url)] = Field(
        description="such as http://localhost:11434 (ollama) or https://api.openai.com/v1 (openai)"
    )
    api: Literal["openai", "ollama"] = "openai"
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(description="such as qwen3:32b")
    key: str | None = Field(None, pattern=r"^env:[A-Za-z_]\w*$", description="env:NAME, on every worker")
    temperature: float = Field(0.0, ge=0, le=2)
    seed: int = 0
    max_tokens: int = Field(512, ge=1, le=100_000, description="of one answer")
    concurrency: int = Field(4, ge=1, le=256, description="requests at once")
    timeout_seconds: float = Field(120.0, gt=0, description="of one request")
    attempts: int = Field(6, ge=1, le=50, description="for one answer, with growing waits in between")

    def asked(self) -> dict[str, Any]:
        """What decides what is answered, and nothing of how it is fetched."""
        return self.model_dump(include={"api", "model", "temperature", "seed", "max_tokens"})


class LabelOptions(EndpointOptions):
    """`label` of a definition: a language model gives the labels before each training."""

    prompt: Annotated[str, StringConstraints(min_length=1, max_length=200_000)] = Field(
        description="what the model is told before each text; `refit models apply` reads it from prompt_file"
    )
    rows: Literal["all", "unlabelled"] = Field("all", description="unlabelled: only rows that have no label yet")
    columns: list[str] | None = Field(None, min_length=1, description="unset: every label column")
    tolerated: float = Field(0.02, ge=0, le=1, description="share of texts that may stay without an answer")


def _port_is_one(url: SplitResult) -> bool:
    try:
        return url.port != 0
    except ValueError:
        return False
