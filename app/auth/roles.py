"""Who may do what."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property


class Role(StrEnum):
    VIEWER = "viewer"
    REPORTER = "reporter"
    PREDICTOR = "predictor"
    TRAINER = "trainer"
    OPERATOR = "operator"
    ADMIN = "admin"


# What a role may do besides its own: an operator who reloads must also see and trigger.
INCLUDES: dict[Role, frozenset[Role]] = {
    Role.VIEWER: frozenset(),
    Role.REPORTER: frozenset(),
    Role.PREDICTOR: frozenset(),
    Role.TRAINER: frozenset({Role.VIEWER}),
    Role.OPERATOR: frozenset({Role.TRAINER, Role.VIEWER, Role.PREDICTOR, Role.REPORTER}),
    Role.ADMIN: frozenset(Role),
}


@dataclass(frozen=True)
class Principal:
    """Whoever calls. `str(principal)` is the actor in every record."""

    id: str
    name: str
    roles: frozenset[Role]

    @cached_property
    def powers(self) -> frozenset[Role]:
        return self.roles.union(*(INCLUDES[own] for own in self.roles))

    def may(self, role: Role) -> bool:
        return role in self.powers

    def __str__(self) -> str:
        return f"{self.name} ({self.id})"


# With REFIT_AUTH=off, which is refused beyond loopback, everybody on this machine is the administrator.
NOBODY_ASKED = Principal("local", "local", frozenset({Role.ADMIN}))
