from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from app.errors import told_name
from app.events.record import of_a_thing
from app.notifications.rules import DEFAULT_KINDS
from app.notifications.tables import Delivery, Target, Try
from app.schemas import ModelName, Strict

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]


KindPattern = Annotated[
    str,
    StringConstraints(pattern=r"^(\*|[a-z_]{1,60}\.(\*|[a-z_]{1,60}))$"),
    AfterValidator(of_a_thing),
]
Severity = Literal["P1", "P2", "P3", "P4"]
State = Literal["pending", "delivered", "failed"]
Url = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*://[\x21-\x7e]+$", max_length=2_000)]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$", max_length=2_000)]
Headers = Annotated[dict[HeaderName, HeaderValue], Field(max_length=20)]

PORTS = {"http": 80, "https": 443}
# What the sender says itself, or the protocol.
OWN_HEADERS = frozenset({"host", "content-length", "content-type", "transfer-encoding", "connection", "user-agent"})


def check_webhook(url: str) -> None:
    """Raises ValueError for what is no URL that can be posted to."""
    try:
        parsed = urlsplit(url)
        port = parsed.port
    except ValueError:
        raise ValueError("not a URL") from None
    if parsed.scheme not in ("http", "https") or not parsed.hostname or port == 0:
        raise ValueError("not an http:// or https:// URL")
    if "@" in parsed.netloc:
        raise ValueError("the URL has a password in it; send it as a header: authorization")
    if parsed.fragment:
        raise ValueError("a URL that is posted to has no fragment")


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Whom a URL calls: scheme, host and port. Two URLs of the same origin are read by the same."""
    parsed = urlsplit(url)
    return parsed.scheme, parsed.hostname, parsed.port or PORTS.get(parsed.scheme)


def check_headers(headers: dict[str, str]) -> None:
    """Raises ValueError naming a header that cannot be sent along."""
    seen: set[str] = set()
    for name in headers:
        lower = name.lower()
        if lower in OWN_HEADERS or lower.startswith("webhook-"):
            raise ValueError(f"the header {told_name(name)} is Refit's own; leave it out")
        if lower in seen:
            raise ValueError(f"the header {told_name(name)} stands twice")
        seen.add(lower)


class CreateTarget(Strict):
    """`webhook`: signed after Standard Webhooks; the answer has its secret, once. `apprise`: mail and chats."""

    name: Name
    type: Literal["webhook", "apprise"] = "webhook"
    url: Url = Field(repr=False)
    headers: Headers = Field({}, repr=False, description="sent with every webhook")

    @model_validator(mode="after")
    def fits_its_type(self) -> Self:
        if self.type == "webhook":
            check_webhook(self.url)
        elif self.headers:
            raise ValueError("Apprise sends no headers; they are for webhooks")
        check_headers(self.headers)
        return self


class ChangeTarget(Strict):
    """What is not named stays as it is; a URL of another origin needs `headers` too, which may be {}."""

    url: Url | None = Field(None, repr=False)
    headers: Headers | None = Field(None, repr=False)
    enabled: bool | None = None

    @model_validator(mode="after")
    def has_headers_that_can_be_sent(self) -> Self:
        check_headers(self.headers or {})
        return self


class TargetView(BaseModel):
    """Without what could be a secret: of the URL only the beginning, of the headers only the names."""

    name: str
    type: str
    url: str
    headers: list[str]
    enabled: bool
    failures: int
    error: str | None
    created_at: datetime
    created_by: str

    @classmethod
    def of(cls, target: Target) -> Self:
        shown = {name: getattr(target, name) for name in cls.model_fields if name not in ("url", "headers", "secret")}
        return cls(**shown, url=masked(target), headers=sorted(target.headers))


class CreatedTarget(TargetView):
    """The only answer that ever has the secret; null for Apprise, which signs nothing."""

    secret: str | None = None


def masked(target: Target) -> str:
    """A path may be a password, and of an Apprise URL every part."""
    scheme, _, rest = target.url.partition("://")
    host = rest.replace("?", "/").partition("/")[0]
    return f"{scheme}://{host}/…" if target.type == "webhook" else f"{scheme}://…"


class PutRule(Strict):
    """Which events are told to a target. Without `kinds`: those that somebody would want to be woken for."""

    target: Name
    model: ModelName | None = Field(None, description="unset: every model")
    kinds: list[KindPattern] = Field(list(DEFAULT_KINDS), min_length=1, max_length=50)
    min_severity: Severity | None = Field(None, description="incidents less grave are not told; P1 is the gravest")
    group_seconds: float = Field(30.0, ge=0, le=86_400, description="what happens within it is one message")
    cooldown_seconds: float = Field(900.0, ge=0, le=30 * 86_400, description="the same is not told again within it")
    enabled: bool = True


class RuleView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str
    target: str
    model: str | None
    kinds: list[str]
    min_severity: str | None
    group_seconds: float
    cooldown_seconds: float
    enabled: bool
    created_at: datetime
    created_by: str


class TryView(BaseModel):
    """One attempt: `status` of HTTP where there was an answer, `error` null where it was delivered."""

    model_config = ConfigDict(from_attributes=True)

    attempt: int
    at: datetime
    status: int | None
    ms: float
    error: str | None


class DeliveryView(BaseModel):
    """One message to one target. `message` is its id in every try; `events` are ids of the record."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    message: str
    target: str
    rule: str
    kind: str
    model: str | None
    events: list[int]
    suppressed: int
    state: State
    attempts: int
    next_at: datetime | None
    error: str | None
    created_at: datetime
    ended_at: datetime | None

    @classmethod
    def fields_of(cls, delivery: Delivery) -> dict[str, Any]:
        fields = {name: getattr(delivery, name) for name in DeliveryView.model_fields}
        return fields | ({} if delivery.state == "pending" else {"next_at": None})

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        return cls(**cls.fields_of(delivery))


class DeliveryDetail(DeliveryView):
    tries: list[TryView]

    @classmethod
    def with_tries(cls, delivery: Delivery, tries: Sequence[Try]) -> Self:
        return cls(**cls.fields_of(delivery), tries=[TryView.model_validate(each) for each in tries])


class SendOutcome(BaseModel):
    """How a test-send ended: `error` null and `delivered` true, or why not."""

    target: str
    message: str
    delivered: bool
    status: int | None
    ms: float
    error: str | None
