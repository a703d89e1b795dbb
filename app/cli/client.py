"""The service as the commands call it: where it is, which key it gets, and its problems as failures of the command."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import Any, cast
from urllib.parse import quote

import click
import httpx
from pydantic import ValidationError

from app.cli.embedded.services import address
from app.cli.failures import Exit, Failure
from app.cli.output import say
from app.cli.sendable import flaw
from app.settings import LOOPBACK, Settings

KEY_FILE = "admin.key"
# Reload and rollback wait twice for the replicas, ten seconds each by default.
ANSWER_SECONDS = 60.0
PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)
PAGE = 1_000

Json = dict[str, Any]


class Unreachable(Failure):
    """Nobody answers, or only something in front of the service does. Whoever may ask twice can try again."""


@dataclass(frozen=True)
class Api:
    """`patience`: for so many seconds a GET is tried again while nobody answers."""

    http: httpx.Client
    patience: float = 0.0

    def get(self, path: str, **params: Any) -> Any:
        return self._json("GET", path, params=_given(params), patience=self.patience)

    def post(self, path: str, body: Json | None = None, **how: Any) -> Any:
        """`body` without what is None: the service's defaults are its own."""
        return self._json("POST", path, json=_given(body or {}), **how)

    def put(self, path: str, body: Json) -> Any:
        return self._json("PUT", path, json=body)

    def patch(self, path: str, body: Json) -> Any:
        return self._json("PATCH", path, json=body)

    def delete(self, path: str) -> Any:
        return self._json("DELETE", path)

    def pages(self, path: str, limit: int, **params: Any) -> list[Json]:
        """The first `limit` rows of a list, over as many pages as it takes."""
        return list(islice(self._rows(path, min(limit, PAGE), _given(params)), limit))

    def call(
        self,
        method: str,
        path: str,
        *,
        patience: float = 0.0,
        answer_seconds: float = ANSWER_SECONDS,
        **what: Any,
    ) -> httpx.Response:
        """The response, 2xx or 304. For calls that may be made twice, tries again for `patience` seconds.

        Raises Unreachable, or a Failure with what the service's problem document says.
        """
        deadline = time.monotonic() + patience
        pauses = chain(PAUSES, repeat(PAUSES[-1]))
        while True:
            try:
                return self._once(method, path, httpx.Timeout(answer_seconds, connect=5.0), what)
            except Unreachable as failure:
                pause = next(pauses)
                if time.monotonic() + pause > deadline:
                    raise
                say(f"{failure.message} Trying again.")
            time.sleep(pause)

    @contextmanager
    def stream(self, method: str, path: str, answer_seconds: float, **what: Any) -> Iterator[httpx.Response]:
        """As `call`, once; the response's lines are read as they come."""
        response = self._once(method, path, httpx.Timeout(answer_seconds, connect=5.0), what, stream=True)
        with closing(response):
            yield response

    def _once(
        self, method: str, path: str, timeout: httpx.Timeout, what: Mapping[str, Any], *, stream: bool = False
    ) -> httpx.Response:
        try:
            request = self.http.build_request(method, path, timeout=timeout, **what)
        except (TypeError, ValueError, httpx.InvalidURL) as error:
            raise Failure(f"This cannot be sent: {flaw(what.get('json')) or error}.", Exit.USAGE) from None
        try:
            response = self.http.send(request, stream=stream)
            if not response.is_success:
                response.read()
        except httpx.TimeoutException:
            raise self._unreachable(f"{self.http.base_url} gave no answer in time.") from None
        except httpx.TransportError as error:
            raise self._unreachable(f"Nothing answers at {self.http.base_url} ({error}).") from None
        if response.is_success or response.status_code == 304:
            return response
        raise self._failure(response)

    def _failure(self, response: httpx.Response) -> Failure:
        problem = _problem(response)
        if problem is None and response.status_code not in (502, 503, 504):
            return self._stranger()
        if problem is None:
            return self._unreachable(f"{self.http.base_url} answers {response.status_code}: nobody behind it.")
        failure = Failure.of_problem(problem)
        return Unreachable.of_problem(problem) if failure.exit == Exit.UNREACHABLE else failure

    def _json(self, method: str, path: str, **how: Any) -> Any:
        response = self.call(method, path, **how)
        try:
            return response.json()
        except ValueError:
            raise self._stranger() from None

    def _rows(self, path: str, size: int, params: Json) -> Iterator[Json]:
        page = self.get(path, **params, limit=size)
        yield from page["data"]
        while page["has_more"]:
            page = self.get(path, **params | {"limit": size, "after": page["next"]})
            yield from page["data"]

    def _unreachable(self, message: str) -> Unreachable:
        remedy = "Start it with `refit up`, or name another with REFIT_URL."
        return Unreachable(message, Exit.UNREACHABLE, remedy=remedy)

    def _stranger(self) -> Failure:
        message = f"{self.http.base_url} answers, but not as Refit does."
        return Failure(message, Exit.UNREACHABLE, remedy="Check REFIT_URL.")


def connect() -> Api:
    """The service of REFIT_URL, or that of this machine; closed when the command ends."""
    config = configured()
    http = client(service_url(config), key_of(config))
    return Api(click.get_current_context().with_resource(http))


def client(url: str, key: str | None) -> httpx.Client:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    # A proxy of the environment does not lead to this machine.
    return httpx.Client(base_url=url, headers=headers, trust_env=not _is_here(url))


def configured() -> Settings:
    """The settings of the environment. Raises Failure naming each variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = (f"REFIT_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        raise Failure(f"The environment is not valid: {'; '.join(wrong)}.", Exit.USAGE) from None


def service_url(config: Settings) -> str:
    url = config.url or address(config)
    if not url.startswith(("http://", "https://")):
        raise Failure(f"REFIT_URL is {url}, and no address.", Exit.USAGE, remedy="It begins with http:// or https://.")
    return url


def key_of(config: Settings) -> str | None:
    """REFIT_API_KEY, or the key that `refit up` left on this machine, which is sent nowhere else."""
    if config.api_key is not None:
        if not config.api_key.isascii():
            raise Failure("REFIT_API_KEY is not a key.", Exit.USAGE, remedy="A key reads refit_<id>_<secret>.")
        return config.api_key.strip()
    file = config.data_dir / KEY_FILE
    try:
        return file.read_text().strip() if _is_here(service_url(config)) else None
    except FileNotFoundError:
        return None
    except OSError as error:
        remedy = "Set REFIT_API_KEY, or become the user who runs `refit up`."
        raise Failure(f"{file} cannot be read: {error.strerror}.", Exit.NOT_ALLOWED, remedy=remedy) from None


def resolved(api: Api, model: str | None) -> str:
    """The name of the model that is meant, quoted for a path: the service resolves one that is left out."""
    return quote(model if model is not None else str(api.get("/model/slots")["model"]), safe="")


def version_path(api: Api, model: str, version: int | None) -> str:
    """Of that version; where none is named of what stands by, else of the newest. Raises Failure without any."""
    number = version or api.get("/model/slots", model=model)["standby"] or newest_version(api, model)
    return f"/model/versions/{quote(model, safe='')}/{number}"


def newest_version(api: Api, model: str) -> int:
    """Its number. Raises Failure where the model has none."""
    newest = api.pages("/model/versions", 1, model=model)
    if not newest:
        raise Failure(f"{model} has no version yet.", Exit.NOT_FOUND, remedy=f"Train one: refit trigger {model} --wait")
    return int(newest[0]["number"])


def _is_here(url: str) -> bool:
    return httpx.URL(url).host in LOOPBACK


def _given(fields: Mapping[str, Any]) -> Json:
    return {name: value for name, value in fields.items() if value is not None}


def _problem(response: httpx.Response) -> Json | None:
    """The problem document of an error, None where it is not one of Refit's."""
    if not response.headers.get("content-type", "").startswith("application/problem+json"):
        return None
    return cast("Json", response.json())
