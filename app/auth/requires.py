"""What a router asks of whoever calls, as the annotation of a parameter: `principal: Trainer`.

The key is sent as `Authorization: Bearer <key>` or `X-API-Key: <key>`.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
from starlette.types import Scope

from app.auth.keyring import KeyRing
from app.auth.roles import NOBODY_ASKED, Principal, Role
from app.errors import Forbidden, Unauthenticated
from app.http import header


async def authenticate(scope: Scope, role: Role, other: Role | None = None) -> Principal:
    """Whoever sent this request, by the keys in memory. Raises Unauthenticated, or Forbidden without either role."""
    state = scope["app"].state
    principal = NOBODY_ASKED if state.settings.auth == "off" else await _sender(scope, state.keys)
    if not principal.may(role) and (other is None or not principal.may(other)):
        raise Forbidden(f"This needs the role {role}; the key {principal.id} has {', '.join(sorted(principal.roles))}.")
    return principal


async def _sender(scope: Scope, keys: KeyRing) -> Principal:
    scheme, _, key = header(scope, b"authorization").partition(" ")
    key = key.strip() if scheme.lower() == "bearer" else header(scope, b"x-api-key")
    if not key:
        raise Unauthenticated("A key is needed.", remedy="Send it as `Authorization: Bearer refit_…`.")
    return await keys.principal_of(key)


def _requires(role: Role, other: Role | None = None) -> Callable[[Request], Awaitable[Principal]]:
    async def principal_with_role(request: Request) -> Principal:
        return await authenticate(request.scope, role, other)

    return principal_with_role


Viewer = Annotated[Principal, Depends(_requires(Role.VIEWER))]
Reporter = Annotated[Principal, Depends(_requires(Role.REPORTER))]
Predictor = Annotated[Principal, Depends(_requires(Role.PREDICTOR))]
PredictorOrViewer = Annotated[Principal, Depends(_requires(Role.PREDICTOR, Role.VIEWER))]
Trainer = Annotated[Principal, Depends(_requires(Role.TRAINER))]
Operator = Annotated[Principal, Depends(_requires(Role.OPERATOR))]
Admin = Annotated[Principal, Depends(_requires(Role.ADMIN))]
