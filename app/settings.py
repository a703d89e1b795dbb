"""The only reader of the environment. Every setting is `REFIT_<NAME>`; the defaults run on one machine."""

import math
import os
import re
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Network = IPv4Network | IPv6Network

SWITCH = dict.fromkeys(("true", "1", "on", "yes"), True) | dict.fromkeys(("false", "0", "off", "no"), False)
TYPE = re.compile(r"[a-z][a-z0-9_-]{0,62}")
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def default_data_dir() -> Path:
    """`/var/lib/refit` for root, `~/.local/share/refit` (or `$XDG_DATA_HOME/refit`) for everybody else."""
    if os.geteuid() == 0:
        return Path("/var/lib/refit")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "refit"


def parse_networks(value: str) -> tuple[Network, ...]:
    """`10.1.0.0/16,::1` as networks. Raises ValueError."""
    return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())


def parse_seconds(value: str) -> tuple[float, ...]:
    """`5,300` as seconds. Raises ValueError for what is no time to wait."""
    waits = tuple(float(part) for part in value.split(",") if part.strip())
    if not all(math.isfinite(wait) and wait >= 0 for wait in waits):
        raise ValueError("a wait is a number of seconds from 0")
    return waits


def parse_types(value: str) -> bool | str | None:
    """`true` and `false` in their usual spellings, nothing as unset, else names of types. Raises ValueError."""
    names = sorted({part.strip() for part in value.split(",") if part.strip()})
    if not names:
        return None
    if len(names) == 1 and names[0].lower() in SWITCH:
        return SWITCH[names[0].lower()]
    if not all(TYPE.fullmatch(name) for name in names):
        raise ValueError("write true, false, or names of model types with commas between them")
    return ",".join(names)


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="REFIT_", extra="ignore", frozen=True)

    # Where things are
    database_url: str | None = Field(None, description="postgresql+psycopg://…; unset: `refit up` starts its own")
    broker_url: str | None = Field(None, description="redis://…; unset: `refit up` starts its own")
    data_dir: Path = Field(default_factory=default_data_dir, description="embedded servers, keys, logs")
    store_dir: Path | None = Field(None, description="artifacts, snapshots, checkpoints; default DATA_DIR/store")
    url: str | None = Field(None, description="the service that the `refit` command talks to")
    api_key: str | None = Field(None, description="the key that the `refit` command sends; default DATA_DIR/admin.key")

    # The API
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    replicas: int = Field(1, ge=1, description="processes that share the port, each a replica of its own")
    listen_fd: int | None = Field(None, description="a listening socket that was handed over")
    drain_seconds: float = Field(1.0, ge=0, description="from SIGTERM to the end: clients are told to go elsewhere")
    drain_answers_seconds: float = Field(
        25.0, ge=0, description="then, how long a language model may go on with answers that it has begun"
    )
    auth: Literal["required", "off"] = "required"
    max_body_bytes: int = Field(32 * 2**20, ge=1024)
    max_batch_rows: int = Field(10_000, ge=1)
    strict_serving: bool = Field(False, description="answer 503 rather than predict with a lease that ran out")
    database_pool: int = Field(10, ge=2)

    # Jobs
    training_enabled: bool | str | None = Field(
        None,
        description="unset: every type but costly ones; true: all; types, comma-separated: those; "
        "false: the service is being set up, every trigger is refused",
    )
    job_lease_seconds: float = Field(15.0, gt=0.2)
    job_max_attempts: int = Field(3, ge=1)
    job_poll_seconds: float = Field(2.0, gt=0, description="how often a worker asks Postgres for queued jobs")
    job_stall_seconds: float = Field(1800.0, gt=0, description="alive but not advancing for so long: stopped")
    cancel_grace_seconds: float = Field(10.0, ge=0, description="from SIGTERM to SIGKILL of an attempt")
    queues: str = Field("cpu", description="the queues this worker serves, comma-separated")
    concurrency: int = Field(1, ge=1, description="attempts that this worker runs side by side")

    # What is kept for how long; 0: for ever
    retain_log_days: float = Field(90, ge=0, description="logs and curves of jobs that have ended")
    retain_checkpoint_days: float = Field(14, ge=0, description="checkpoints of jobs that have ended")
    retain_staging_hours: float = Field(24, ge=0, description="what a killed attempt left half written")
    retain_artifact_days: float = Field(0, ge=0, description="files of versions that never stood in a slot")

    # Serving
    replica_lease_seconds: float = Field(5.0, gt=0.2)
    reload_wait_seconds: float = Field(10.0, ge=0, description="how long reload waits for warm replicas and receipts")

    # Language models
    llama_cpp_dir: Path | None = Field(None, description="llama.cpp's converter; unset: where its fetch puts it")
    gguf_pre_fallback: str | None = Field(None, description="of test models alone: how an unknown tokenizer splits")
    answer_seconds: float = Field(600.0, gt=0, description="the longest that one answer of a language model may take")
    llama_threads: int | None = Field(None, ge=1, description="cores of one version that llama.cpp runs; default half")
    ollama_url: str = Field("http://127.0.0.1:11434", description="the Ollama of versions that name no other")
    ollama_namespace: str = Field(
        "refit",
        pattern=r"^[a-z0-9_][a-z0-9_-]{0,30}$",
        description="of our tags there; one for each Refit that shares it",
    )

    # Monitoring
    counting: Literal["on", "off"] = Field("on", description="off: answers are neither counted nor kept for feedback")
    counting_seconds: float = Field(5.0, gt=0, description="how often a replica adds its counts to those in Postgres")
    answers_keep_days: float = Field(30, gt=0, description="how long feedback finds the answer that it speaks of")

    # Notifications
    notification_networks: str = Field(
        "", description="networks beside the public ones that webhooks may go to, such as 127.0.0.0/8,10.1.0.0/16"
    )
    notification_timeout_seconds: float = Field(15.0, gt=0, description="for one try, from its name to its answer")
    notification_retry_seconds: str = Field(
        "5,300,1800,7200,18000,36000,50400,72000,86400", description="the waits between the tries of a message"
    )

    @field_validator("training_enabled", mode="before")
    @classmethod
    def are_types(cls, value: object) -> object:
        return parse_types(value) if isinstance(value, str) else value

    @field_validator("notification_networks")
    @classmethod
    def are_networks(cls, value: str) -> str:
        parse_networks(value)
        return value

    @field_validator("notification_retry_seconds")
    @classmethod
    def are_seconds(cls, value: str) -> str:
        parse_seconds(value)
        return value

    def may_train(self, type: str, *, costly: bool) -> bool:
        """Whether a training of that type may begin at all."""
        if self.training_enabled is None:
            return not costly
        if isinstance(self.training_enabled, str):
            return type in self.training_enabled.split(",")
        return self.training_enabled

    @property
    def networks(self) -> tuple[Network, ...]:
        return parse_networks(self.notification_networks)

    @property
    def retry_seconds(self) -> tuple[float, ...]:
        return parse_seconds(self.notification_retry_seconds)

    @property
    def store(self) -> Path:
        return self.store_dir or self.data_dir / "store"

    @property
    def database(self) -> str:
        """The SQLAlchemy URL of Postgres, always by psycopg 3. Raises ValueError where none is set."""
        if self.database_url is None:
            raise ValueError("REFIT_DATABASE_URL is not set. `refit up` starts a Postgres of its own and sets it.")
        return self.database_url.replace("postgres://", "postgresql://", 1).replace(
            "postgresql://", "postgresql+psycopg://", 1
        )


@lru_cache
def settings() -> Settings:
    return Settings()
