"""`python -m benchmarks.llm [CHANGES]`: the whole road, reloads under streams, kills, gsm8k, and what goes wrong."""

import asyncio
import tempfile
from pathlib import Path

from benchmarks.llm import failures, gsm8k, kills, road, streams
from benchmarks.report import report, size
from benchmarks.service import running

CHANGES = 40


def main() -> None:
    with report("road-llm") as told, tempfile.TemporaryDirectory() as temporary:
        with running(settings=road.SETTINGS) as service:
            road.walk(service, told)
            asyncio.run(streams.reload_under_streams(service, told, size(CHANGES)))
            streams.weigh(service, told)
            kills.kill(service, told)
            failures.tell(service, told)
            gsm8k.tell(service, told)
        with (
            failures.broken_converter(Path(temporary)) as settings,
            running(settings=road.SETTINGS | settings) as service,
        ):
            failures.converter_fails(service, told)


if __name__ == "__main__":
    main()
