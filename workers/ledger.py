"""What an attempt has found out, one JSON line a finding, so that the next attempt does not ask again."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson


class Ledger:
    """Appended to by one process at a time, as a context. A line that was cut by a kill was not said."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._file.seek(0)
        content = self._file.read()
        self._known = dict(_entries(content))
        if content and not content.endswith(b"\n"):
            self._file.write(b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __getitem__(self, key: str) -> Any:
        return self._known[key]

    def write(self, key: str, found: Any) -> None:
        """Whole or not at all where the process is killed; a machine that loses power may lose the last ones."""
        self._known[key] = found
        self._file.write(orjson.dumps([key, found]) + b"\n")
        self._file.flush()


def _entries(content: bytes) -> list[tuple[str, Any]]:
    entries = []
    for line in content.splitlines():
        try:
            key, found = orjson.loads(line)
        except (orjson.JSONDecodeError, ValueError, TypeError):
            continue
        entries.append((key, found))
    return entries
