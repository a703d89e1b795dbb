import click

from app.cli.arguments import examples
from app.cli.client import connect
from app.cli.output import emit, json_option, say, table

ROLES = ("viewer", "reporter", "predictor", "trainer", "operator", "admin")


@click.group()
def keys() -> None:
    """Who may call, and what they may do. For admins."""


@keys.command(
    epilog=examples("refit keys create scoring --role predictor", "refit keys create ci --role trainer > ci.key")
)
@click.argument("name")
@click.option(
    "--role", "roles", type=click.Choice(ROLES), multiple=True, required=True, help="May be given several times."
)
@json_option
def create(name: str, roles: tuple[str, ...]) -> None:
    """Make a key and print it, once and never again."""
    made = connect().post("/keys", {"name": name, "roles": list(roles)})
    emit(made, lambda key: click.echo(key["key"]))
    say(f"key {made['id']} for {name}; it is not shown again. It is sent as REFIT_API_KEY or `Authorization: Bearer …`")


@keys.command(epilog=examples("refit keys bootstrap > admin.key"))
@json_option
def bootstrap() -> None:
    """Make the first admin key, straight in the database of REFIT_DATABASE_URL, and print it, once.

    For a deployment that nobody can call yet; refused while an admin key exists. `refit up` does it by itself.
    """
    from app.cli.database import make_first_key  # noqa: PLC0415 - the other commands need no database, nor its half second

    key = make_first_key(actor="refit keys bootstrap")
    emit(
        {"id": key.split("_")[1], "name": "admin", "roles": ["admin"], "key": key}, lambda made: click.echo(made["key"])
    )
    say("the first admin key; it is not shown again. Sent as REFIT_API_KEY, it makes the others: `refit keys create`")


@keys.command("list", epilog=examples("refit keys list"))
@json_option
def list_keys() -> None:
    """Every key, without its secret."""
    headers = ("id", "name", "roles", "created", "by", "revoked")
    rows = connect().get("/keys")
    emit(
        rows,
        lambda found: table(
            headers,
            [
                (k["id"], k["name"], ", ".join(k["roles"]), k["created_at"], k["created_by"], k["revoked_at"])
                for k in found
            ],
        ),
    )


@keys.command(epilog=examples("refit keys revoke 1a2b3c4d5e6f"))
@click.argument("id")
@json_option
def revoke(id: str) -> None:
    """Revoke a key, for ever, everywhere within a second."""
    emit(connect().delete(f"/keys/{id}"), lambda key: click.echo(key["id"]))
    say("revoked")
