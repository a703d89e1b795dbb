"""What a router asks of whoever calls, as the annotation of a parameter: `principal: Trainer`.

The key is sent as `Authorization: Bearer <key>` or `X-API-Key: <key>`.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request

from app.auth.keyring import KeyRing
from app.auth.roles import NOBODY_ASKED, Principal, Role
from app.errors import Forbidden, Unauthenticated


async def authenticate(request: Request) -> Principal:
    if request.app.state.settings.auth == "off":
        return NOBODY_ASKED
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    key = key.strip() if scheme.lower() == "bearer" else request.headers.get("X-API-Key", "")
    if not key:
        raise Unauthenticated("A key is needed.", remedy="Send it as `Authorization: Bearer refit_…`.")
    keys: KeyRing = request.app.state.keys
    return await keys.principal_of(key)


def _requires(role: Role) -> Callable[[Request], Awaitable[Principal]]:
    async def principal_with_role(request: Request) -> Principal:
        principal = await authenticate(request)
        if not principal.may(role):
            raise Forbidden(
                f"This needs the role {role}; the key {principal.id} has {', '.join(sorted(principal.roles))}."
            )
        return principal

    return principal_with_role


Viewer = Annotated[Principal, Depends(_requires(Role.VIEWER))]
Reporter = Annotated[Principal, Depends(_requires(Role.REPORTER))]
Predictor = Annotated[Principal, Depends(_requires(Role.PREDICTOR))]
Trainer = Annotated[Principal, Depends(_requires(Role.TRAINER))]
Operator = Annotated[Principal, Depends(_requires(Role.OPERATOR))]
Admin = Annotated[Principal, Depends(_requires(Role.ADMIN))]
