"""Every route, the role that it needs, and one harmless request to it: what it answers, and changes nothing.

This is the declaration that the application is held against: a route without an entry, or with another role, is named.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, get_args

from fastapi.routing import APIRoute

from app.auth import requires
from app.auth.roles import Role
from app.main import ROUTERS

Json = dict[str, Any]

# The models of the service that is asked: numbers only, with a category, and one that takes posted samples.
NUMERIC, MIXED, POSTED = "tumours", "customers", "posted"


@dataclass(frozen=True)
class Route:
    """`status` and `code` are the answer to `path` with `at`, `query` and `body`, asked by an admin.

    `text` is a field of the body that takes text alone; `body_optional` where no body at all is a request as well.
    """

    method: str
    path: str
    role: Role | None
    status: int = 200
    code: str | None = None
    at: Json = field(default_factory=dict)
    query: str = ""
    body: Json | None = None
    text: str = "model"
    body_optional: bool = False
    other: Role | None = None  # that may call it as well

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def target(self) -> str:
        return self.path.format(**self.at) + (f"?{self.query}" if self.query else "")

    @property
    def is_hot(self) -> bool:
        """Predictions decode their body by hand, and take other formats than JSON."""
        return self.path == "/predict/batch"


def _get(path: str, role: Role | None = Role.VIEWER, query: str = "", **at: Any) -> Route:
    return Route("GET", path, role, at=at, query=query)


def _missing(path: str, code: str, **at: Any) -> Route:
    return Route("GET", path, Role.VIEWER, 404, code, at=at)


def _refused(path: str, role: Role, status: int, code: str, body: Json | None, **rest: Any) -> Route:
    return Route(rest.pop("method", "POST"), path, role, status, code, body=body, **rest)


OF_MODEL = f"model={NUMERIC}"
ABSENT = {"model": "absent"}
WHY = {"reason": "none"}
NOWHERE = {"name": "absent"}
ABSENT_TYPE = {"type": "absent", "data": {"source": "samples", "label": "y"}}

ROUTES = (
    _get("/training/status", query=OF_MODEL),
    _get("/training/prerequisites", query=OF_MODEL),
    _get("/training/types"),
    _get("/training/workers"),
    _get("/training/jobs"),
    _get("/training/jobs/{job_id}", job_id=1),
    _get("/training/jobs/{job_id}/events", job_id=1),
    _get("/training/jobs/{job_id}/logs", job_id=1),
    _get("/training/jobs/{job_id}/metrics", job_id=1),
    _get("/training/jobs/{job_id}/record", job_id=1),
    _get("/training/jobs/{job_id}/archive", job_id=1),
    _refused(
        "/training/jobs/{job_id}/evaluation", Role.TRAINER, 404, "no_evaluation", None, method="GET", at={"job_id": 1},
    ),
    _get("/schedule"),
    _refused("/training/trigger", Role.TRAINER, 404, "model_not_found", ABSENT),
    _refused(
        "/training/jobs/{job_id}/cancel", Role.TRAINER, 409, "job_ended", WHY,
        at={"job_id": 1}, text="reason", body_optional=True,
    ),
    _refused("/training/jobs/{job_id}/resume", Role.TRAINER, 409, "not_resumable", None, at={"job_id": 1}),
    _get("/model/slots", query=OF_MODEL),
    _get("/model/versions", query=OF_MODEL),
    _get("/model/versions/{model}/{number}", model=NUMERIC, number=1),
    _refused(
        "/model/versions/{model}/{number}/evaluation", Role.TRAINER, 404, "no_evaluation", None,
        method="GET", at={"model": NUMERIC, "number": 1},
    ),
    _get("/model/diff", query=f"{OF_MODEL}&older=1&newer=1"),
    _get("/model/history", query=OF_MODEL),
    _refused("/model/reload", Role.OPERATOR, 404, "model_not_found", ABSENT, body_optional=True),
    _refused("/model/rollback", Role.OPERATOR, 404, "model_not_found", ABSENT | WHY),
    _refused("/model/hold", Role.OPERATOR, 404, "model_not_found", ABSENT | WHY),
    _refused("/model/unhold", Role.OPERATOR, 404, "model_not_found", ABSENT | WHY),
    _refused(
        "/model/versions/{model}/{number}/stage", Role.OPERATOR, 404, "version_not_found", WHY,
        at={"model": NUMERIC, "number": 99}, text="reason", body_optional=True,
    ),
    _missing("/model/versions/{model}/{number}/evaluation-sheet", "no_evaluation", model=NUMERIC, number=1),
    _refused(
        "/model/versions/{model}/{number}/signoff", Role.VIEWER, 404, "no_evaluation",
        {"verdict": "reject", "evaluation": "0" * 64}, at={"model": NUMERIC, "number": 1}, text="notes",
    ),
    _get("/model/versions/{model}/{number}/signoffs", model=NUMERIC, number=1),
    _get("/model/versions/{model}/{number}/release-notes", model=NUMERIC, number=1),
    _refused("/predict/batch", Role.PREDICTOR, 404, "model_not_found", ABSENT | {"instances": [[1.0]]}),
    _refused(
        "/classify", Role.PREDICTOR, 422, "invalid_instances", {"title": "none"}, query=OF_MODEL, text="title",
    ),
    _refused(
        "/v1/chat/completions", Role.PREDICTOR, 404, "model_not_found",
        ABSENT | {"messages": [{"role": "user", "content": "none"}]},
    ),
    Route("GET", "/v1/models", Role.PREDICTOR, other=Role.VIEWER),
    Route(
        "GET", "/v1/models/{model}", Role.PREDICTOR, 404, "model_not_found", at={"model": NUMERIC}, other=Role.VIEWER,
    ),
    _get("/models"),
    _get("/models/{model}", model=NUMERIC),
    _get("/models/{model}/revisions", model=NUMERIC),
    _refused(
        "/models/{model}", Role.OPERATOR, 422, "unknown_model_type", ABSENT_TYPE,
        method="PUT", at={"model": NUMERIC}, text="type",
    ),
    _refused("/data/samples", Role.REPORTER, 404, "model_not_found", ABSENT | {"rows": [{"y": 1}]}),
    _refused("/data/quality", Role.REPORTER, 404, "model_not_found", ABSENT | {"status": "healthy", "source": "none"}),
    _get("/data/versions"),
    _get("/data/versions/{model}/{digest}", model=NUMERIC, digest="latest"),
    _get("/data/versions/{model}/{digest}/rows", Role.TRAINER, "side=holdout", model=NUMERIC, digest="latest"),
    _refused(
        "/feedback", Role.REPORTER, 404, "model_not_found",
        ABSENT | {"feedback": [{"request_id": "0" * 32, "label": 1}]},
    ),
    _get("/feedback", query=OF_MODEL),
    _refused("/metrics/learning", Role.REPORTER, 404, "model_not_found", ABSENT | {"accept_rate": 0.5}),
    _get("/metrics/learning", query=OF_MODEL),
    _refused(
        "/metrics/observations", Role.REPORTER, 404, "model_not_found",
        ABSENT | {"observations": [{"name": "bleu", "value": 0.5}]},
    ),
    _get("/metrics/observations", query=OF_MODEL),
    _get("/predictions/log", Role.TRAINER, query=OF_MODEL),
    _refused("/model/canary", Role.OPERATOR, 404, "model_not_found", ABSENT | WHY | {"share": 0.1}),
    _refused("/model/canary/stop", Role.OPERATOR, 404, "model_not_found", ABSENT | WHY),
    _refused("/model/shadow", Role.OPERATOR, 404, "model_not_found", ABSENT | WHY),
    _refused("/model/shadow/stop", Role.OPERATOR, 404, "model_not_found", ABSENT | WHY),
    _refused("/model/trial", Role.VIEWER, 404, "no_trial", None, method="GET", query=OF_MODEL),
    _get("/model/trials", query=OF_MODEL),
    _get("/events"),
    _refused("/monitoring/check", Role.TRAINER, 404, "model_not_found", ABSENT, body_optional=True),
    _get("/monitoring/monitors", query=OF_MODEL),
    _get("/monitoring/checks", query=OF_MODEL),
    _get("/monitoring/watches", query=OF_MODEL),
    _refused("/monitoring/watches/{id}", Role.VIEWER, 404, "watch_not_found", None, method="GET", at={"id": 999_999}),
    _get("/incidents"),
    _refused("/incidents/{id}", Role.VIEWER, 404, "incident_not_found", None, method="GET", at={"id": 999_999}),
    _refused("/incidents", Role.OPERATOR, 404, "model_not_found", ABSENT | {"severity": "P4", "title": "none"}),
    _refused(
        "/incidents/{id}/acknowledge", Role.OPERATOR, 404, "incident_not_found", {"note": "none"},
        at={"id": 999_999}, text="note", body_optional=True,
    ),
    _refused(
        "/incidents/{id}/close", Role.OPERATOR, 404, "incident_not_found", {"note": "none"},
        at={"id": 999_999}, text="note",
    ),
    Route("POST", "/retention/run", Role.OPERATOR, body={"dry_run": True}, text="reason", body_optional=True),
    _get("/notifications/targets"),
    _missing("/notifications/targets/{name}", "target_not_found", name="absent"),
    _refused(
        "/notifications/targets", Role.OPERATOR, 422, "invalid", {"name": "none", "url": "nowhere"}, text="name",
    ),
    _refused(
        "/notifications/targets/{name}", Role.OPERATOR, 404, "target_not_found", {"enabled": True},
        method="PATCH", at=NOWHERE, text="url",
    ),
    _refused(
        "/notifications/targets/{name}", Role.OPERATOR, 404, "target_not_found", None,
        method="DELETE", at=NOWHERE,
    ),
    _refused("/notifications/targets/{name}/rotate", Role.OPERATOR, 404, "target_not_found", None, at=NOWHERE),
    _refused("/notifications/targets/{name}/test", Role.OPERATOR, 404, "target_not_found", None, at=NOWHERE),
    _get("/notifications/rules"),
    _missing("/notifications/rules/{name}", "rule_not_found", name="absent"),
    _refused(
        "/notifications/rules/{name}", Role.OPERATOR, 404, "target_not_found", {"target": "absent"},
        method="PUT", at=NOWHERE, text="target",
    ),
    _refused(
        "/notifications/rules/{name}", Role.OPERATOR, 404, "rule_not_found", None,
        method="DELETE", at=NOWHERE,
    ),
    _get("/notifications/deliveries"),
    _missing("/notifications/deliveries/{id}", "delivery_not_found", id=999_999),
    _refused(
        "/notifications/deliveries/{id}/redeliver", Role.OPERATOR, 404, "delivery_not_found", None, at={"id": 999_999},
    ),
    _get("/keys", Role.ADMIN),
    _refused("/keys", Role.ADMIN, 422, "invalid", {"name": "none", "roles": []}, text="name"),
    _refused("/keys/{id}", Role.ADMIN, 404, "key_not_found", None, method="DELETE", at={"id": "absent"}),
    _get("/health", None),
    _get("/health/live", None),
    _get("/health/ready", None),
)  # fmt: skip

# HEAD answers where a load balancer asks.
HEADS = ("/health/live", "/health/ready")


def undeclared(document: Json) -> list[str]:
    """What the OpenAPI document and the routers say otherwise than ROUTES, as sentences."""
    told = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    known = {str(route): route.role for route in ROUTES}
    asked = dict(_asked_roles())
    return (
        [f"{name} is not declared here" for name in sorted(told - known.keys())]
        + [f"{name} is declared here and not in the document" for name in sorted(known.keys() - told)]
        + [f"{n} asks for {asked[n]}, declared is {known[n]}" for n in known if n in asked and asked[n] != known[n]]
    )


def _asked_roles() -> Iterator[tuple[str, Role | None]]:
    """The role that each router asks for; what is no function of FastAPI is held by its answers alone."""
    role_of = {get_args(getattr(requires, role.capitalize()))[1].dependency: role for role in Role}
    role_of[get_args(requires.PredictorOrViewer)[1].dependency] = Role.PREDICTOR
    for route in (route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)):
        roles = [role_of[asked.call] for asked in route.dependant.dependencies if asked.call in role_of]
        yield from ((f"{method} {route.path}", roles[0] if roles else None) for method in route.methods or ())
